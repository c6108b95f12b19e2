; As reload, but most of the time the unit comes back with the bytes that it had: what was compiled of it may go on, but not
; where another value came in between.
; refresh.asm [reloads] [turns]
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
    arg r0, 0, 20
    arg r1, 1, 2000
    int r2, 0
    int r3, 0
again:
    reload step, r2
    call r4, step, r1, 1
    add r3, r3, r4
    print r4
    reload step, r2
    call r4, step, r1, 1
    add r3, r3, r4
    print r4
    reload step, r2
    call r4, step, r1, 1
    add r3, r3, r4
    reload step, r0
    call r4, step, r1, 1
    add r3, r3, r4
    print r4
    reload step, r2
    call r4, step, r1, 1
    add r3, r3, r4
    addi r2, r2, 1
    jlt r2, r0, again
    print r3
    ret r3
end
