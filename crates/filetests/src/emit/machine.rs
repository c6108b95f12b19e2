//! Emitted code, run by this processor in this process.
//!
//! All of it is at fixed addresses below 2 GiB, so that loading and storing a state needs no register. A run loads the
//! state, jumps to the code, and comes back through a *landing*: a piece of code for each place that the original program
//! could go on at, which notes its number and stores the state. A fault, and code that does not come to an end, lands too.
//!
//! With the trap flag set, a signal handler runs after every instruction, on the stack that the code uses: what is below
//! `rsp - 128` does not survive.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use redmagic_ir::eval::Regs;

/// Where the code goes.
pub const CODE: u64 = 0x5000_0000;
/// Bytes of it.
pub const CODE_SIZE: usize = 0x40_0000;
/// Where the stubs of a single trace go.
pub const COLD: u64 = CODE + CODE_SIZE as u64 / 4;
/// Where its data goes.
pub const DATA: u64 = 0x5040_0000;
/// Bytes of it.
pub const DATA_SIZE: usize = 0x10_0000;
/// Where the counters of exits are.
pub const COUNTERS: u64 = 0x5050_0000;
const COUNTERS_SIZE: usize = 0x1_0000;
const STUBS: u64 = 0x5060_0000;
const STUBS_SIZE: usize = 0x2_0000;
const STATE: u64 = 0x5070_0000;
const STATE_SIZE: usize = 0x2000;
/// Where the stack is.
pub const STACK: u64 = 0x5080_0000;
/// Bytes of it.
pub const STACK_SIZE: usize = 0x1_0000;
/// Where memory is that the code may use.
pub const BUFFER: u64 = 0x5090_0000;
/// Bytes of it.
pub const BUFFER_SIZE: usize = 0x1000;

/// How many landings there are.
pub const LANDINGS: u64 = 2048;
/// The landing of the trace's end, through the anchor's slot.
pub const END: u64 = LANDINGS;
/// The landing of exits that restart.
pub const RESTART: u64 = LANDINGS + 1;
const FAULT: u64 = LANDINGS + 2;
const TIMEOUT: u64 = LANDINGS + 3;
/// The callee of residual calls that changes every register.
pub const CALLEE: u64 = STUBS + 0x1000;
/// The one that keeps to the ABI.
pub const CALLEE_SYSV: u64 = STUBS + 0x1800;
/// The word that is jumped through at the end.
pub const END_SLOT: u64 = STATE + 0x1ff0;
/// The word that restarting exits jump through.
pub const RESTART_SLOT: u64 = STATE + 0x1ff8;
const LAND: u64 = STUBS + 0x2000;
const IN: u64 = STATE;
const OUT: u64 = STATE + 0x400;
/// A stack for loading and storing states, and its highest word.
const SPARE: u64 = 0x50a0_0000;
const SPARE_SIZE: usize = 0x1_0000;
const FLAGS_WORD: u64 = SPARE + SPARE_SIZE as u64 - 16;
const HOST_RSP: u64 = STATE + 0x800;
const WHICH: u64 = STATE + 0x808;
const ENTRY: u64 = STATE + 0x810;
const HOST_MXCSR: u64 = STATE + 0x818;

const FLAGS: u64 = 128;
const MXCSR: u64 = 136;
const YMM: u64 = 160;

/// The trap flag.
const TF: u64 = 0x100;

/// The address of a landing.
pub fn landing(number: u64) -> u64 {
    assert!(number < LANDINGS);
    LAND + number * 16
}

/// How a run came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// At a landing.
    Landed(u64),
    /// By a signal.
    Fault {
        /// Which.
        signal: i32,
        /// The instruction.
        rip: u64,
        /// The address that could not be accessed.
        addr: u64,
    },
    /// It did not.
    Timeout,
}

/// The mappings. One at a time in a process.
pub struct Machine {
    _private: (),
}

static FAULT_SIGNAL: AtomicU64 = AtomicU64::new(0);
static FAULT_RIP: AtomicU64 = AtomicU64::new(0);
static FAULT_ADDR: AtomicU64 = AtomicU64::new(0);
/// Traps that were handled, to know that stepping steps.
pub static TRAPS: AtomicU64 = AtomicU64::new(0);

fn map(addr: u64, size: usize, protection: i32) -> io::Result<()> {
    // SAFETY: a new private anonymous mapping at an address that must be free (NOREPLACE).
    let p = unsafe {
        libc::mmap(
            addr as *mut libc::c_void,
            size,
            protection,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )
    };
    if p == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    assert_eq!(p as u64, addr, "the kernel knows MAP_FIXED_NOREPLACE");
    Ok(())
}

fn write(addr: u64, bytes: &[u8]) {
    // SAFETY: only called with addresses within the mappings of the machine, which exists while this is called.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), addr as *mut u8, bytes.len()) }
}

fn read<const N: usize>(addr: u64) -> [u8; N] {
    let mut out = [0; N];
    // SAFETY: as in `write`.
    unsafe { std::ptr::copy_nonoverlapping(addr as *const u8, out.as_mut_ptr(), N) };
    out
}

fn read64(addr: u64) -> u64 {
    u64::from_le_bytes(read(addr))
}

fn absolute(code: &mut Vec<u8>, addr: u64) {
    code.extend((addr as u32).to_le_bytes());
}

/// `mov reg, [addr]` (0x8b) or `mov [addr], reg` (0x89).
fn mov(code: &mut Vec<u8>, opcode: u8, reg: usize, addr: u64) {
    code.extend([0x48 | ((reg >> 3) as u8) << 2, opcode, (reg as u8 & 7) << 3 | 4, 0x25]);
    absolute(code, addr);
}

/// `vmovups ymm, [addr]` (0x10) or `vmovups [addr], ymm` (0x11).
fn vmovups(code: &mut Vec<u8>, opcode: u8, reg: usize, addr: u64) {
    let second = if reg < 8 { 0xfc } else { 0x7c };
    code.extend([0xc5, second, opcode, (reg as u8 & 7) << 3 | 4, 0x25]);
    absolute(code, addr);
}

fn entering() -> Vec<u8> {
    let mut code = vec![0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57]; // push rbx, rbp, r12-r15
    mov(&mut code, 0x89, 4, HOST_RSP);
    code.extend([0x0f, 0xae, 0x1c, 0x25]); // stmxcsr
    absolute(&mut code, HOST_MXCSR);
    code.extend([0x0f, 0xae, 0x14, 0x25]); // ldmxcsr
    absolute(&mut code, IN + MXCSR);
    for reg in 0..16 {
        vmovups(&mut code, 0x10, reg, IN + YMM + 32 * reg as u64);
    }
    // From here on traps may come, so there is always a stack.
    code.extend([0x48, 0xc7, 0xc4]); // mov rsp, imm32
    absolute(&mut code, FLAGS_WORD);
    code.push(0x9d); // popfq
    for reg in (0..16).filter(|reg| *reg != 4) {
        mov(&mut code, 0x8b, reg, IN + 8 * reg as u64);
    }
    mov(&mut code, 0x8b, 4, IN + 8 * 4);
    code.extend([0xff, 0x24, 0x25]); // jmp [entry]
    absolute(&mut code, ENTRY);
    code
}

fn leaving() -> Vec<u8> {
    let mut code = Vec::new();
    for reg in 0..16 {
        mov(&mut code, 0x89, reg, OUT + 8 * reg as u64);
    }
    code.extend([0x48, 0xc7, 0xc4]); // mov rsp, imm32
    absolute(&mut code, FLAGS_WORD);
    code.extend([0x9c, 0x8f, 0x04, 0x25]); // pushfq; pop [flags]
    absolute(&mut code, OUT + FLAGS);
    mov(&mut code, 0x8b, 4, HOST_RSP);
    code.extend([0x68, 2, 2, 0, 0, 0x9d]); // push 0x202; popfq
    code.extend([0x0f, 0xae, 0x1c, 0x25]); // stmxcsr
    absolute(&mut code, OUT + MXCSR);
    for reg in 0..16 {
        vmovups(&mut code, 0x11, reg, OUT + YMM + 32 * reg as u64);
    }
    code.extend([0x0f, 0xae, 0x14, 0x25]); // ldmxcsr
    absolute(&mut code, HOST_MXCSR);
    code.extend([0xc5, 0xf8, 0x77]); // vzeroupper
    code.extend([0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3]); // pops; ret
    code
}

/// Notes the original return address that the marker behind the call names, scribbles over the stack below itself, and
/// changes registers. [`called`] is the same in Rust.
fn callee(sysv: bool) -> Vec<u8> {
    let mut code = Vec::new();
    code.extend([0x4c, 0x8b, 0x14, 0x24]); // mov r10, [rsp]
    code.extend([0x4d, 0x63, 0x5a, 0x03]); // movsxd r11, dword [r10 + 3]
    code.extend([0x4d, 0x01, 0xda]); // add r10, r11
    mov(&mut code, 0x89, 10, BUFFER + 8);
    mov(&mut code, 0x89, 7, BUFFER + 16); // rdi
    mov(&mut code, 0x89, 3, BUFFER + 24); // rbx
    for at in 1..64u32 {
        code.extend([0x48, 0xc7, 0x84, 0x24]); // mov qword [rsp - 8 * at], imm32
        code.extend((-(8 * at as i32)).to_le_bytes());
        code.extend(0x5ca1_ab1eu32.to_le_bytes());
    }
    code.extend([0x48, 0x01, 0xf8]); // add rax, rdi
    code.extend([0x48, 0x31, 0xf1]); // xor rcx, rsi
    code.extend([0x48, 0x8d, 0x14, 0x52]); // lea rdx, [rdx + rdx * 2]
    code.extend([0x48, 0xff, 0xc6]); // inc rsi
    code.extend([0x48, 0xf7, 0xd7]); // not rdi
    code.extend([0x4d, 0x01, 0xc8]); // add r8, r9
    code.extend([0x66, 0x0f, 0xd4, 0xc1]); // paddq xmm0, xmm1
    code.extend([0x66, 0x44, 0x0f, 0xef, 0xf8]); // pxor xmm15, xmm0
    code.extend([0x45, 0x31, 0xd2, 0x45, 0x31, 0xdb]); // xor r10d, r10d; xor r11d, r11d
    if !sysv {
        code.extend([0x48, 0xff, 0xc3]); // inc rbx
        code.extend([0x4d, 0x01, 0xe4]); // add r12, r12
        code.extend([0x48, 0xf7, 0xd5]); // not rbp
    }
    code.push(0xc3);
    code
}

/// What a callee does to the registers. In memory it leaves the original return address at BUFFER + 8, rdi at 16, rbx at 24.
pub fn called(sysv: bool, regs: &mut Regs) {
    let g = &mut regs.gpr;
    g[0] = g[0].wrapping_add(g[7]);
    g[1] ^= g[6];
    g[2] = g[2].wrapping_mul(3);
    g[6] = g[6].wrapping_add(1);
    g[7] = !g[7];
    g[8] = g[8].wrapping_add(g[9]);
    let lanes = |x: u128| [x as u64, (x >> 64) as u64];
    let (a, b) = (lanes(regs.xmm[0]), lanes(regs.xmm[1]));
    let sum = u128::from(a[0].wrapping_add(b[0])) | u128::from(a[1].wrapping_add(b[1])) << 64;
    regs.xmm[0] = sum;
    regs.xmm[15] ^= sum;
    (g[10], g[11]) = (0, 0);
    if !sysv {
        g[3] = g[3].wrapping_add(1);
        g[12] = g[12].wrapping_add(g[12]);
        g[5] = !g[5];
    }
    g[4] = g[4].wrapping_add(8);
}

impl Machine {
    /// Makes the mappings and installs the signal handlers.
    pub fn new() -> io::Result<Machine> {
        let (r, w, x) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
        map(CODE, CODE_SIZE, r | w | x)?;
        map(DATA, DATA_SIZE, r | w)?;
        map(COUNTERS, COUNTERS_SIZE, r | w)?;
        map(STUBS, STUBS_SIZE, r | w | x)?;
        map(STATE, STATE_SIZE, r | w)?;
        map(STACK, STACK_SIZE, r | w)?;
        map(SPARE, SPARE_SIZE, r | w)?;
        map(BUFFER, BUFFER_SIZE, r | w)?;
        write(STUBS, &entering());
        write(STUBS + 0x800, &leaving());
        write(CALLEE, &callee(false));
        write(CALLEE_SYSV, &callee(true));
        for number in 0..LANDINGS + 4 {
            let at = LAND + number * 16;
            let mut code = vec![0xc7, 0x04, 0x25]; // mov dword [which], number
            absolute(&mut code, WHICH);
            code.extend((number as u32).to_le_bytes());
            code.push(0xe9);
            absolute(&mut code, (STUBS + 0x800).wrapping_sub(at + 16));
            assert_eq!(code.len(), 16);
            write(at, &code);
        }
        write(END_SLOT, &(LAND + END * 16).to_le_bytes());
        write(RESTART_SLOT, &(LAND + RESTART * 16).to_le_bytes());
        const ARCH_SET_GS: i64 = 0x1001;
        // SAFETY: nothing in this process uses gs; the call takes two integers.
        if unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, BUFFER) } != 0 {
            return Err(io::Error::last_os_error());
        }
        install();
        Ok(Machine { _private: () })
    }

    /// Puts code and data in place.
    pub fn load(&mut self, (hot, cold): (&[u8], &[u8]), data: &[u64]) {
        self.put(CODE, hot, DATA, data);
        self.put(COLD, cold, DATA, &[]);
        for i in 0..(COUNTERS_SIZE / 4) as u64 {
            write(COUNTERS + 4 * i, &1_000_000u32.to_le_bytes());
        }
    }

    /// Puts code and data at these addresses, within [`CODE`] and [`DATA`].
    pub fn put(&mut self, base: u64, code: &[u8], data_base: u64, data: &[u64]) {
        assert!(base >= CODE && base + code.len() as u64 <= CODE + CODE_SIZE as u64);
        assert!(data_base >= DATA && data_base + 8 * data.len() as u64 <= DATA + DATA_SIZE as u64);
        write(base, code);
        for (i, word) in data.iter().enumerate() {
            write(data_base + 8 * i as u64, &word.to_le_bytes());
        }
    }

    /// Changes a word of data.
    pub fn set_word(&mut self, addr: u64, word: u64) {
        assert!((DATA..DATA + DATA_SIZE as u64 - 7).contains(&addr));
        write(addr, &word.to_le_bytes());
    }

    /// Sets the counters of the first `count` exits to 1,000,000.
    pub fn reset_counters(&mut self, count: u32) {
        assert!(count as usize * 4 <= COUNTERS_SIZE);
        for i in 0..u64::from(count) {
            write(COUNTERS + 4 * i, &1_000_000u32.to_le_bytes());
        }
    }

    /// How often an exit was taken since then.
    pub fn taken(&self, exit: u32) -> u32 {
        assert!((exit as usize) < COUNTERS_SIZE / 4);
        1_000_000 - u32::from_le_bytes(read(COUNTERS + 4 * u64::from(exit)))
    }

    /// The stack and the memory that the code may use.
    pub fn memory(&mut self) -> (&mut [u8], &mut [u8]) {
        // SAFETY: both mappings live as long as the process, nothing else refers to them, and they do not overlap.
        unsafe {
            (
                std::slice::from_raw_parts_mut(STACK as *mut u8, STACK_SIZE),
                std::slice::from_raw_parts_mut(BUFFER as *mut u8, BUFFER_SIZE),
            )
        }
    }

    /// Runs the code at `entry` from a state. With `steps`, a signal is handled after every instruction.
    pub fn run(&mut self, entry: u64, regs: &Regs, steps: bool) -> (Came, Regs) {
        for (i, v) in regs.gpr.iter().enumerate() {
            write(IN + 8 * i as u64, &v.to_le_bytes());
        }
        let rflags = regs.rflags | if steps { TF } else { 0 };
        write(FLAGS_WORD, &rflags.to_le_bytes());
        write(IN + MXCSR, &regs.mxcsr.to_le_bytes());
        for i in 0..16 {
            write(IN + YMM + 32 * i as u64, &regs.xmm[i].to_le_bytes());
            write(IN + YMM + 32 * i as u64 + 16, &regs.ymm_high[i].to_le_bytes());
        }
        write(ENTRY, &entry.to_le_bytes());
        alarm(200_000);
        // SAFETY: the stub was written there, and keeps what the C ABI says. The code it runs is what is being tested:
        // where it is wrong this process may end.
        unsafe {
            let enter: extern "C" fn() = std::mem::transmute(STUBS as *const ());
            enter();
        }
        alarm(0);
        let which = u64::from(u32::from_le_bytes(read(WHICH)));
        let came = match which {
            FAULT => Came::Fault {
                signal: FAULT_SIGNAL.load(Ordering::Relaxed) as i32,
                rip: FAULT_RIP.load(Ordering::Relaxed),
                addr: FAULT_ADDR.load(Ordering::Relaxed),
            },
            TIMEOUT => Came::Timeout,
            number => Came::Landed(number),
        };
        let mut out = Regs {
            rflags: read64(OUT + FLAGS) & !TF,
            mxcsr: u32::from_le_bytes(read(OUT + MXCSR)),
            ..regs.clone()
        };
        for (i, v) in out.gpr.iter_mut().enumerate() {
            *v = read64(OUT + 8 * i as u64);
        }
        for i in 0..16 {
            out.xmm[i] = u128::from_le_bytes(read(OUT + YMM + 32 * i as u64));
            out.ymm_high[i] = u128::from_le_bytes(read(OUT + YMM + 32 * i as u64 + 16));
        }
        (came, out)
    }
}

fn alarm(microseconds: i64) {
    let timer = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval {
            tv_sec: 0,
            tv_usec: microseconds,
        },
    };
    // SAFETY: the pointer is to a local; no old value is asked for.
    unsafe { libc::setitimer(libc::ITIMER_VIRTUAL, &timer, std::ptr::null_mut()) };
}

extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes valid pointers to a handler that asked for them.
    let (addr, regs) = unsafe {
        let context = &mut *context.cast::<libc::ucontext_t>();
        ((*info).si_addr() as u64, &mut context.uc_mcontext.gregs)
    };
    let rip = regs[libc::REG_RIP as usize] as u64;
    let ours = (CODE..STATE).contains(&rip);
    if !ours && signal != libc::SIGVTALRM {
        // SAFETY: no pointers. The fault comes again, with its usual end.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    if !ours {
        return;
    }
    FAULT_SIGNAL.store(signal as u64, Ordering::Relaxed);
    FAULT_RIP.store(rip, Ordering::Relaxed);
    FAULT_ADDR.store(addr, Ordering::Relaxed);
    let number = if signal == libc::SIGVTALRM { TIMEOUT } else { FAULT };
    regs[libc::REG_RIP as usize] = (LAND + number * 16) as i64;
    regs[libc::REG_EFL as usize] &= !(TF as i64);
}

extern "C" fn on_trap(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    TRAPS.fetch_add(1, Ordering::Relaxed);
}

fn install() {
    // SAFETY: handlers with the signature that SA_SIGINFO wants, which touch atomics and their arguments only; the
    // alternate stack is leaked, so it lives on. Plain structures of integers and pointers may be zeroed.
    unsafe {
        let stack = libc::stack_t {
            ss_sp: Box::leak(vec![0u8; 1 << 16].into_boxed_slice()).as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: 1 << 16,
        };
        libc::sigaltstack(&stack, std::ptr::null_mut());
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        for signal in [libc::SIGSEGV, libc::SIGILL, libc::SIGFPE, libc::SIGBUS, libc::SIGVTALRM] {
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
        action.sa_sigaction = on_trap as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGTRAP, &action, std::ptr::null_mut());
    }
}
