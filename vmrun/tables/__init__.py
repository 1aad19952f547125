"""Hardware tables: values in, bytes out."""
