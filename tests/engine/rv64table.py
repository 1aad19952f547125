"""The instruction table of the tests' assembler: one line an instruction, bit patterns as the manual prints them.

A line holds the mnemonic, its operands in assembly order, and the encoding from the highest bit to the lowest. A
token of the encoding is a run of fixed bits, a field (see ``FIELDS``) or an immediate ``kind.slices``: kind ``s``
signed, ``u`` unsigned, ``p`` relative to the pc, ``n`` signed and not zero, ``z`` unsigned and not zero; ``12|10:5``
names the bits of the value that the token holds, highest first. ``[ext]`` starts the instructions of an extension.

Sources: The RISC-V Instruction Set Manual, volume I 20240411 (chapters 2 to 28 and 34, the listings) and volume II
20240411 (10.1 for SFENCE.VMA, 10.6 for Svinval).
"""

from __future__ import annotations

FIELDS: dict[str, int] = {
    "rd": 5, "rs1": 5, "rs2": 5, "fd": 5, "fs1": 5, "fs2": 5, "fs3": 5,
    "rd'": 3, "rs1'": 3, "rs2'": 3, "fd'": 3, "fs2'": 3,
    "rd+": 5, "rs1+": 5, "rs2+": 5,  # any register but x0
    "rd*": 5,  # any register but x0 and x2
    "rm": 3, "aq": 1, "rl": 1, "pred": 4, "succ": 4, "csr": 12,
}  # fmt: skip
"""Width in bits of each field that is not an immediate. A prime marks the registers x8 to x15 (f8 to f15)."""

TABLE = """
[I]
lui        rd,u              u.19:0 rd 0110111
auipc      rd,u              u.19:0 rd 0010111
jal        rd,p              p.20|10:1|11|19:12 rd 1101111
jalr       rd,s(rs1)         s.11:0 rs1 000 rd 1100111
beq        rs1,rs2,p         p.12|10:5 rs2 rs1 000 p.4:1|11 1100011
bne        rs1,rs2,p         p.12|10:5 rs2 rs1 001 p.4:1|11 1100011
blt        rs1,rs2,p         p.12|10:5 rs2 rs1 100 p.4:1|11 1100011
bge        rs1,rs2,p         p.12|10:5 rs2 rs1 101 p.4:1|11 1100011
bltu       rs1,rs2,p         p.12|10:5 rs2 rs1 110 p.4:1|11 1100011
bgeu       rs1,rs2,p         p.12|10:5 rs2 rs1 111 p.4:1|11 1100011
lb         rd,s(rs1)         s.11:0 rs1 000 rd 0000011
lh         rd,s(rs1)         s.11:0 rs1 001 rd 0000011
lw         rd,s(rs1)         s.11:0 rs1 010 rd 0000011
ld         rd,s(rs1)         s.11:0 rs1 011 rd 0000011
lbu        rd,s(rs1)         s.11:0 rs1 100 rd 0000011
lhu        rd,s(rs1)         s.11:0 rs1 101 rd 0000011
lwu        rd,s(rs1)         s.11:0 rs1 110 rd 0000011
sb         rs2,s(rs1)        s.11:5 rs2 rs1 000 s.4:0 0100011
sh         rs2,s(rs1)        s.11:5 rs2 rs1 001 s.4:0 0100011
sw         rs2,s(rs1)        s.11:5 rs2 rs1 010 s.4:0 0100011
sd         rs2,s(rs1)        s.11:5 rs2 rs1 011 s.4:0 0100011
addi       rd,rs1,s          s.11:0 rs1 000 rd 0010011
slti       rd,rs1,s          s.11:0 rs1 010 rd 0010011
sltiu      rd,rs1,s          s.11:0 rs1 011 rd 0010011
xori       rd,rs1,s          s.11:0 rs1 100 rd 0010011
ori        rd,rs1,s          s.11:0 rs1 110 rd 0010011
andi       rd,rs1,s          s.11:0 rs1 111 rd 0010011
slli       rd,rs1,u          000000 u.5:0 rs1 001 rd 0010011
srli       rd,rs1,u          000000 u.5:0 rs1 101 rd 0010011
srai       rd,rs1,u          010000 u.5:0 rs1 101 rd 0010011
add        rd,rs1,rs2        0000000 rs2 rs1 000 rd 0110011
sub        rd,rs1,rs2        0100000 rs2 rs1 000 rd 0110011
sll        rd,rs1,rs2        0000000 rs2 rs1 001 rd 0110011
slt        rd,rs1,rs2        0000000 rs2 rs1 010 rd 0110011
sltu       rd,rs1,rs2        0000000 rs2 rs1 011 rd 0110011
xor        rd,rs1,rs2        0000000 rs2 rs1 100 rd 0110011
srl        rd,rs1,rs2        0000000 rs2 rs1 101 rd 0110011
sra        rd,rs1,rs2        0100000 rs2 rs1 101 rd 0110011
or         rd,rs1,rs2        0000000 rs2 rs1 110 rd 0110011
and        rd,rs1,rs2        0000000 rs2 rs1 111 rd 0110011
addiw      rd,rs1,s          s.11:0 rs1 000 rd 0011011
slliw      rd,rs1,u          0000000 u.4:0 rs1 001 rd 0011011
srliw      rd,rs1,u          0000000 u.4:0 rs1 101 rd 0011011
sraiw      rd,rs1,u          0100000 u.4:0 rs1 101 rd 0011011
addw       rd,rs1,rs2        0000000 rs2 rs1 000 rd 0111011
subw       rd,rs1,rs2        0100000 rs2 rs1 000 rd 0111011
sllw       rd,rs1,rs2        0000000 rs2 rs1 001 rd 0111011
srlw       rd,rs1,rs2        0000000 rs2 rs1 101 rd 0111011
sraw       rd,rs1,rs2        0100000 rs2 rs1 101 rd 0111011
fence.tso  -                 1000 0011 0011 00000 000 00000 0001111
pause      -                 0000 0001 0000 00000 000 00000 0001111
fence      pred,succ         0000 pred succ 00000 000 00000 0001111
ecall      -                 000000000000 00000 000 00000 1110011
ebreak     -                 000000000001 00000 000 00000 1110011
[Zifencei]
fence.i    -                 000000000000 00000 001 00000 0001111
[Zicsr]
csrrw      rd,csr,rs1        csr rs1 001 rd 1110011
csrrs      rd,csr,rs1        csr rs1 010 rd 1110011
csrrc      rd,csr,rs1        csr rs1 011 rd 1110011
csrrwi     rd,csr,u          csr u.4:0 101 rd 1110011
csrrsi     rd,csr,u          csr u.4:0 110 rd 1110011
csrrci     rd,csr,u          csr u.4:0 111 rd 1110011
[M]
mul        rd,rs1,rs2        0000001 rs2 rs1 000 rd 0110011
mulh       rd,rs1,rs2        0000001 rs2 rs1 001 rd 0110011
mulhsu     rd,rs1,rs2        0000001 rs2 rs1 010 rd 0110011
mulhu      rd,rs1,rs2        0000001 rs2 rs1 011 rd 0110011
div        rd,rs1,rs2        0000001 rs2 rs1 100 rd 0110011
divu       rd,rs1,rs2        0000001 rs2 rs1 101 rd 0110011
rem        rd,rs1,rs2        0000001 rs2 rs1 110 rd 0110011
remu       rd,rs1,rs2        0000001 rs2 rs1 111 rd 0110011
mulw       rd,rs1,rs2        0000001 rs2 rs1 000 rd 0111011
divw       rd,rs1,rs2        0000001 rs2 rs1 100 rd 0111011
divuw      rd,rs1,rs2        0000001 rs2 rs1 101 rd 0111011
remw       rd,rs1,rs2        0000001 rs2 rs1 110 rd 0111011
remuw      rd,rs1,rs2        0000001 rs2 rs1 111 rd 0111011
[A]
lr.w       rd,(rs1)          00010 aq rl 00000 rs1 010 rd 0101111
sc.w       rd,rs2,(rs1)      00011 aq rl rs2 rs1 010 rd 0101111
amoswap.w  rd,rs2,(rs1)      00001 aq rl rs2 rs1 010 rd 0101111
amoadd.w   rd,rs2,(rs1)      00000 aq rl rs2 rs1 010 rd 0101111
amoxor.w   rd,rs2,(rs1)      00100 aq rl rs2 rs1 010 rd 0101111
amoand.w   rd,rs2,(rs1)      01100 aq rl rs2 rs1 010 rd 0101111
amoor.w    rd,rs2,(rs1)      01000 aq rl rs2 rs1 010 rd 0101111
amomin.w   rd,rs2,(rs1)      10000 aq rl rs2 rs1 010 rd 0101111
amomax.w   rd,rs2,(rs1)      10100 aq rl rs2 rs1 010 rd 0101111
amominu.w  rd,rs2,(rs1)      11000 aq rl rs2 rs1 010 rd 0101111
amomaxu.w  rd,rs2,(rs1)      11100 aq rl rs2 rs1 010 rd 0101111
lr.d       rd,(rs1)          00010 aq rl 00000 rs1 011 rd 0101111
sc.d       rd,rs2,(rs1)      00011 aq rl rs2 rs1 011 rd 0101111
amoswap.d  rd,rs2,(rs1)      00001 aq rl rs2 rs1 011 rd 0101111
amoadd.d   rd,rs2,(rs1)      00000 aq rl rs2 rs1 011 rd 0101111
amoxor.d   rd,rs2,(rs1)      00100 aq rl rs2 rs1 011 rd 0101111
amoand.d   rd,rs2,(rs1)      01100 aq rl rs2 rs1 011 rd 0101111
amoor.d    rd,rs2,(rs1)      01000 aq rl rs2 rs1 011 rd 0101111
amomin.d   rd,rs2,(rs1)      10000 aq rl rs2 rs1 011 rd 0101111
amomax.d   rd,rs2,(rs1)      10100 aq rl rs2 rs1 011 rd 0101111
amominu.d  rd,rs2,(rs1)      11000 aq rl rs2 rs1 011 rd 0101111
amomaxu.d  rd,rs2,(rs1)      11100 aq rl rs2 rs1 011 rd 0101111
[F]
flw        fd,s(rs1)         s.11:0 rs1 010 fd 0000111
fsw        fs2,s(rs1)        s.11:5 fs2 rs1 010 s.4:0 0100111
fmadd.s    fd,fs1,fs2,fs3,rm fs3 00 fs2 fs1 rm fd 1000011
fmsub.s    fd,fs1,fs2,fs3,rm fs3 00 fs2 fs1 rm fd 1000111
fnmsub.s   fd,fs1,fs2,fs3,rm fs3 00 fs2 fs1 rm fd 1001011
fnmadd.s   fd,fs1,fs2,fs3,rm fs3 00 fs2 fs1 rm fd 1001111
fadd.s     fd,fs1,fs2,rm     0000000 fs2 fs1 rm fd 1010011
fsub.s     fd,fs1,fs2,rm     0000100 fs2 fs1 rm fd 1010011
fmul.s     fd,fs1,fs2,rm     0001000 fs2 fs1 rm fd 1010011
fdiv.s     fd,fs1,fs2,rm     0001100 fs2 fs1 rm fd 1010011
fsqrt.s    fd,fs1,rm         0101100 00000 fs1 rm fd 1010011
fsgnj.s    fd,fs1,fs2        0010000 fs2 fs1 000 fd 1010011
fsgnjn.s   fd,fs1,fs2        0010000 fs2 fs1 001 fd 1010011
fsgnjx.s   fd,fs1,fs2        0010000 fs2 fs1 010 fd 1010011
fmin.s     fd,fs1,fs2        0010100 fs2 fs1 000 fd 1010011
fmax.s     fd,fs1,fs2        0010100 fs2 fs1 001 fd 1010011
fcvt.w.s   rd,fs1,rm         1100000 00000 fs1 rm rd 1010011
fcvt.wu.s  rd,fs1,rm         1100000 00001 fs1 rm rd 1010011
fcvt.l.s   rd,fs1,rm         1100000 00010 fs1 rm rd 1010011
fcvt.lu.s  rd,fs1,rm         1100000 00011 fs1 rm rd 1010011
fmv.x.w    rd,fs1            1110000 00000 fs1 000 rd 1010011
feq.s      rd,fs1,fs2        1010000 fs2 fs1 010 rd 1010011
flt.s      rd,fs1,fs2        1010000 fs2 fs1 001 rd 1010011
fle.s      rd,fs1,fs2        1010000 fs2 fs1 000 rd 1010011
fclass.s   rd,fs1            1110000 00000 fs1 001 rd 1010011
fcvt.s.w   fd,rs1,rm         1101000 00000 rs1 rm fd 1010011
fcvt.s.wu  fd,rs1,rm         1101000 00001 rs1 rm fd 1010011
fcvt.s.l   fd,rs1,rm         1101000 00010 rs1 rm fd 1010011
fcvt.s.lu  fd,rs1,rm         1101000 00011 rs1 rm fd 1010011
fmv.w.x    fd,rs1            1111000 00000 rs1 000 fd 1010011
[D]
fld        fd,s(rs1)         s.11:0 rs1 011 fd 0000111
fsd        fs2,s(rs1)        s.11:5 fs2 rs1 011 s.4:0 0100111
fmadd.d    fd,fs1,fs2,fs3,rm fs3 01 fs2 fs1 rm fd 1000011
fmsub.d    fd,fs1,fs2,fs3,rm fs3 01 fs2 fs1 rm fd 1000111
fnmsub.d   fd,fs1,fs2,fs3,rm fs3 01 fs2 fs1 rm fd 1001011
fnmadd.d   fd,fs1,fs2,fs3,rm fs3 01 fs2 fs1 rm fd 1001111
fadd.d     fd,fs1,fs2,rm     0000001 fs2 fs1 rm fd 1010011
fsub.d     fd,fs1,fs2,rm     0000101 fs2 fs1 rm fd 1010011
fmul.d     fd,fs1,fs2,rm     0001001 fs2 fs1 rm fd 1010011
fdiv.d     fd,fs1,fs2,rm     0001101 fs2 fs1 rm fd 1010011
fsqrt.d    fd,fs1,rm         0101101 00000 fs1 rm fd 1010011
fsgnj.d    fd,fs1,fs2        0010001 fs2 fs1 000 fd 1010011
fsgnjn.d   fd,fs1,fs2        0010001 fs2 fs1 001 fd 1010011
fsgnjx.d   fd,fs1,fs2        0010001 fs2 fs1 010 fd 1010011
fmin.d     fd,fs1,fs2        0010101 fs2 fs1 000 fd 1010011
fmax.d     fd,fs1,fs2        0010101 fs2 fs1 001 fd 1010011
fcvt.s.d   fd,fs1,rm         0100000 00001 fs1 rm fd 1010011
fcvt.d.s   fd,fs1,rm         0100001 00000 fs1 rm fd 1010011
feq.d      rd,fs1,fs2        1010001 fs2 fs1 010 rd 1010011
flt.d      rd,fs1,fs2        1010001 fs2 fs1 001 rd 1010011
fle.d      rd,fs1,fs2        1010001 fs2 fs1 000 rd 1010011
fclass.d   rd,fs1            1110001 00000 fs1 001 rd 1010011
fcvt.w.d   rd,fs1,rm         1100001 00000 fs1 rm rd 1010011
fcvt.wu.d  rd,fs1,rm         1100001 00001 fs1 rm rd 1010011
fcvt.l.d   rd,fs1,rm         1100001 00010 fs1 rm rd 1010011
fcvt.lu.d  rd,fs1,rm         1100001 00011 fs1 rm rd 1010011
fmv.x.d    rd,fs1            1110001 00000 fs1 000 rd 1010011
fcvt.d.w   fd,rs1,rm         1101001 00000 rs1 rm fd 1010011
fcvt.d.wu  fd,rs1,rm         1101001 00001 rs1 rm fd 1010011
fcvt.d.l   fd,rs1,rm         1101001 00010 rs1 rm fd 1010011
fcvt.d.lu  fd,rs1,rm         1101001 00011 rs1 rm fd 1010011
fmv.d.x    fd,rs1            1111001 00000 rs1 000 fd 1010011
[Zba]
add.uw     rd,rs1,rs2        0000100 rs2 rs1 000 rd 0111011
sh1add     rd,rs1,rs2        0010000 rs2 rs1 010 rd 0110011
sh2add     rd,rs1,rs2        0010000 rs2 rs1 100 rd 0110011
sh3add     rd,rs1,rs2        0010000 rs2 rs1 110 rd 0110011
sh1add.uw  rd,rs1,rs2        0010000 rs2 rs1 010 rd 0111011
sh2add.uw  rd,rs1,rs2        0010000 rs2 rs1 100 rd 0111011
sh3add.uw  rd,rs1,rs2        0010000 rs2 rs1 110 rd 0111011
slli.uw    rd,rs1,u          000010 u.5:0 rs1 001 rd 0011011
[Zbb]
andn       rd,rs1,rs2        0100000 rs2 rs1 111 rd 0110011
orn        rd,rs1,rs2        0100000 rs2 rs1 110 rd 0110011
xnor       rd,rs1,rs2        0100000 rs2 rs1 100 rd 0110011
clz        rd,rs1            011000000000 rs1 001 rd 0010011
ctz        rd,rs1            011000000001 rs1 001 rd 0010011
cpop       rd,rs1            011000000010 rs1 001 rd 0010011
sext.b     rd,rs1            011000000100 rs1 001 rd 0010011
sext.h     rd,rs1            011000000101 rs1 001 rd 0010011
clzw       rd,rs1            011000000000 rs1 001 rd 0011011
ctzw       rd,rs1            011000000001 rs1 001 rd 0011011
cpopw      rd,rs1            011000000010 rs1 001 rd 0011011
zext.h     rd,rs1            000010000000 rs1 100 rd 0111011
max        rd,rs1,rs2        0000101 rs2 rs1 110 rd 0110011
maxu       rd,rs1,rs2        0000101 rs2 rs1 111 rd 0110011
min        rd,rs1,rs2        0000101 rs2 rs1 100 rd 0110011
minu       rd,rs1,rs2        0000101 rs2 rs1 101 rd 0110011
rol        rd,rs1,rs2        0110000 rs2 rs1 001 rd 0110011
ror        rd,rs1,rs2        0110000 rs2 rs1 101 rd 0110011
rori       rd,rs1,u          011000 u.5:0 rs1 101 rd 0010011
rolw       rd,rs1,rs2        0110000 rs2 rs1 001 rd 0111011
rorw       rd,rs1,rs2        0110000 rs2 rs1 101 rd 0111011
roriw      rd,rs1,u          0110000 u.4:0 rs1 101 rd 0011011
orc.b      rd,rs1            001010000111 rs1 101 rd 0010011
rev8       rd,rs1            011010111000 rs1 101 rd 0010011
[Zbs]
bclr       rd,rs1,rs2        0100100 rs2 rs1 001 rd 0110011
bset       rd,rs1,rs2        0010100 rs2 rs1 001 rd 0110011
binv       rd,rs1,rs2        0110100 rs2 rs1 001 rd 0110011
bext       rd,rs1,rs2        0100100 rs2 rs1 101 rd 0110011
bclri      rd,rs1,u          010010 u.5:0 rs1 001 rd 0010011
bseti      rd,rs1,u          001010 u.5:0 rs1 001 rd 0010011
binvi      rd,rs1,u          011010 u.5:0 rs1 001 rd 0010011
bexti      rd,rs1,u          010010 u.5:0 rs1 101 rd 0010011
[S]
sret       -                 0001000 00010 00000 000 00000 1110011
wfi        -                 0001000 00101 00000 000 00000 1110011
sfence.vma rs1,rs2           0001001 rs2 rs1 000 00000 1110011
[M-mode]
mret       -                 0011000 00010 00000 000 00000 1110011
[Svinval]
sinval.vma rs1,rs2           0001011 rs2 rs1 000 00000 1110011
sfence.w.inval -             0001100 00000 00000 000 00000 1110011
sfence.inval.ir -            0001100 00001 00000 000 00000 1110011
[C]
c.addi4spn rd',sp,z          000 z.5:4|9:6|2|3 rd' 00
c.lw       rd',u(rs1')       010 u.5:3 rs1' u.2|6 rd' 00
c.ld       rd',u(rs1')       011 u.5:3 rs1' u.7:6 rd' 00
c.sw       rs2',u(rs1')      110 u.5:3 rs1' u.2|6 rs2' 00
c.sd       rs2',u(rs1')      111 u.5:3 rs1' u.7:6 rs2' 00
c.nop      -                 000 0 00000 00000 01
c.addi     rd+,n             000 n.5 rd+ n.4:0 01
c.addiw    rd+,s             001 s.5 rd+ s.4:0 01
c.li       rd+,s             010 s.5 rd+ s.4:0 01
c.addi16sp sp,n              011 n.9 00010 n.4|6|8:7|5 01
c.lui      rd*,n             011 n.5 rd* n.4:0 01
c.srli     rd',z             100 z.5 00 rd' z.4:0 01
c.srai     rd',z             100 z.5 01 rd' z.4:0 01
c.andi     rd',s             100 s.5 10 rd' s.4:0 01
c.sub      rd',rs2'          100 0 11 rd' 00 rs2' 01
c.xor      rd',rs2'          100 0 11 rd' 01 rs2' 01
c.or       rd',rs2'          100 0 11 rd' 10 rs2' 01
c.and      rd',rs2'          100 0 11 rd' 11 rs2' 01
c.subw     rd',rs2'          100 1 11 rd' 00 rs2' 01
c.addw     rd',rs2'          100 1 11 rd' 01 rs2' 01
c.j        p                 101 p.11|4|9:8|10|6|7|3:1|5 01
c.beqz     rs1',p            110 p.8|4:3 rs1' p.7:6|2:1|5 01
c.bnez     rs1',p            111 p.8|4:3 rs1' p.7:6|2:1|5 01
c.slli     rd+,z             000 z.5 rd+ z.4:0 10
c.lwsp     rd+,u(sp)         010 u.5 rd+ u.4:2|7:6 10
c.ldsp     rd+,u(sp)         011 u.5 rd+ u.4:3|8:6 10
c.jr       rs1+              100 0 rs1+ 00000 10
c.mv       rd+,rs2+          100 0 rd+ rs2+ 10
c.ebreak   -                 100 1 00000 00000 10
c.jalr     rs1+              100 1 rs1+ 00000 10
c.add      rd+,rs2+          100 1 rd+ rs2+ 10
c.swsp     rs2,u(sp)         110 u.5:2|7:6 rs2 10
c.sdsp     rs2,u(sp)         111 u.5:3|8:6 rs2 10
[CD]
c.fld      fd',u(rs1')       001 u.5:3 rs1' u.7:6 fd' 00
c.fsd      fs2',u(rs1')      101 u.5:3 rs1' u.7:6 fs2' 00
c.fldsp    fd,u(sp)          001 u.5 fd u.4:3|8:6 10
c.fsdsp    fs2,u(sp)         101 u.5:3|8:6 fs2 10
"""

CSRS: dict[str, int] = {
    "fflags": 0x001, "frm": 0x002, "fcsr": 0x003, "cycle": 0xC00, "time": 0xC01, "instret": 0xC02,
    "sstatus": 0x100, "sie": 0x104, "stvec": 0x105, "scounteren": 0x106, "senvcfg": 0x10A, "sscratch": 0x140,
    "sepc": 0x141, "scause": 0x142, "stval": 0x143, "sip": 0x144, "stimecmp": 0x14D, "satp": 0x180,
    "siselect": 0x150, "sireg": 0x151, "stopei": 0x15C, "stopi": 0xDB0,
    "mhartid": 0xF14, "mstatus": 0x300, "misa": 0x301, "medeleg": 0x302, "mideleg": 0x303, "mie": 0x304, "mtvec": 0x305,
    "mcounteren": 0x306, "menvcfg": 0x30A, "mscratch": 0x340, "mepc": 0x341, "mcause": 0x342, "mtval": 0x343,
    "mip": 0x344, "pmpcfg0": 0x3A0, "pmpaddr0": 0x3B0,
}  # fmt: skip
"""CSR names and numbers (volume II, 2.2)."""
