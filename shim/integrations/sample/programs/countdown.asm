; The countdown of the original Redmagic's sample: prints in a block in which tracing is
; disabled, and adds up in a merge block that branches on parity. countdown.asm [n]
func main 4
    arg r0, 0, 500
    int r1, 0
    int r2, 0
loop:
    print r0
    parity r1, r0
    addi r0, r0, -1
    jlt r2, r0, loop
    print r1
    ret r1
end
