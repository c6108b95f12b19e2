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
; (turns, value): the sum of a unit that is loaded anew.
func once 3
    reload step, r1
    call r2, step, r0, 1
    ret r2
end
func main 7
    arg r0, 0, 20
    arg r1, 1, 2000
    int r2, 0
    int r3, 0
    arg r5, 1, 2000
    arg r6, 0, 20
again:
    call r4, once, r1, 2
    add r3, r3, r4
    print r4
    call r4, once, r1, 2
    add r3, r3, r4
    print r4
    call r4, once, r1, 2
    add r3, r3, r4
    call r4, once, r5, 2
    add r3, r3, r4
    print r4
    call r4, once, r1, 2
    add r3, r3, r4
    addi r2, r2, 1
    jlt r2, r0, again
    print r3
    ret r3
end
