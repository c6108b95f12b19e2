; A unit is freed and loaded again with another value while its loop is hot: its bytecode
; is then, as a rule, at the same address. A stale trace would add the old value.
; reload.asm [reloads] [turns]
func step 5
    param r1
    int r2, 0
    int r3, 0
loop:
    add r3, r3, r1
    addi r2, r2, 1
    jlt r2, r0, loop
    ret r3
end
func main 6
    arg r0, 0, 40
    arg r1, 1, 2000
    int r2, 0
    int r3, 0
again:
    reload step, r2
    call r4, step, r1, 1
    add r3, r3, r4
    print r4
    call r4, step, r1, 1
    add r3, r3, r4
    addi r2, r2, 1
    jlt r2, r0, again
    print r3
    ret r3
end
