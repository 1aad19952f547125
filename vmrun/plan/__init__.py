"""MachinePlan: allocation, named checks, the saved form and the views."""
