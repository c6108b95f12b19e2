; A loop that ends in an error nobody catches: a message, and exit status 3. uncaught.asm [n]
func main 4
    arg r0, 0, 2000
    int r1, 0
    array r2, r0
loop:
    aset r2, r1, r1
    addi r1, r1, 1
    jmp loop
end
