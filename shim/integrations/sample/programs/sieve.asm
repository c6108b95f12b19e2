; Counts the primes below n, some turns over: sieve.asm [n] [turns]
func main 10
    arg r0, 0, 4000
    arg r8, 1, 5
    int r9, 0
again:
    array r1, r0
    int r2, 2
    int r3, 0
    int r7, 1
    int r6, 0
next:
    aget r4, r1, r2
    jne r4, r6, composite
    addi r3, r3, 1
    add r5, r2, r2
strike:
    jle r0, r5, composite
    aset r1, r5, r7
    add r5, r5, r2
    jmp strike
composite:
    addi r2, r2, 1
    jlt r2, r0, next
    print r3
    addi r9, r9, 1
    jlt r9, r8, again
    ret r3
end
