//! The processor as an oracle: a ptraced child that executes cases.
//!
//! The child is a fork of this process that shares four mappings with it: code, states to load, states stored, and the
//! cases' memory. A batch of cases runs without a single stop (see [`stub`]); a case that faults stops the child with a
//! signal, which is noted and not delivered, and it goes on with the next case. Cases that change the control flow are
//! stepped.

pub mod stub;

use std::io;

use redmagic_ir::eval::Regs;
use stub::{GAP, PAGE, SLOT, SLOTS, STATE};

/// The base of fs in the child.
pub const FS_BASE: u64 = 0x1234_5000;
/// The base of gs in the child.
pub const GS_BASE: u64 = 0x0765_4000;

/// What the processor made of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The registers after it. `rip` is right for stepped cases, else the address after the last instruction.
    Done(Box<Regs>),
    /// A signal at the instruction at this address.
    Signal(i32, u64),
}

/// One case to run.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The instructions, at most [`GAP`] bytes; `regs.rip` is where they are to run: [`stub::entry`] of the slot.
    pub bytes: &'a [u8],
    /// The state before.
    pub regs: &'a Regs,
    /// Whether the first instruction alone is stepped.
    pub step: bool,
}

/// The child.
pub struct Cpu {
    pid: libc::pid_t,
    code: *mut u8,
    input: *mut u8,
    output: *mut u8,
    pages: *mut u8,
}

fn map(addr: u64, size: usize, protection: i32) -> io::Result<*mut u8> {
    // SAFETY: a new shared anonymous mapping at an address that must be free (NOREPLACE).
    let p = unsafe {
        libc::mmap(
            addr as *mut libc::c_void,
            size,
            protection,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )
    };
    if p == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    assert_eq!(p as u64, addr, "the kernel knows MAP_FIXED_NOREPLACE");
    Ok(p.cast())
}

impl Cpu {
    /// Starts the child. Only one at a time in a process: the addresses are fixed.
    pub fn new() -> io::Result<Cpu> {
        let (r, w, x) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
        let code = map(stub::CODE, SLOTS * SLOT + 4096, r | w | x)?;
        let input = map(stub::IN, SLOTS * STATE, r | w)?;
        let output = map(stub::OUT, SLOTS * STATE, r | w)?;
        let pages = map(stub::PAGES, SLOTS * PAGE, r | w)?;
        for i in 0..SLOTS {
            let slot = stub::slot(i);
            // SAFETY: slot `i` is within the code mapping made above, which nothing else refers to.
            unsafe { std::ptr::copy_nonoverlapping(slot.as_ptr(), code.add(i * SLOT), SLOT) };
        }
        // SAFETY: the last page was mapped for this.
        unsafe { code.add(SLOTS * SLOT).write(0xcc) };
        // SAFETY: the child makes only system calls before it runs the stubs: nothing that another thread of this
        // process may hold a lock for.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        if pid == 0 {
            // SAFETY: system calls without pointers. The parent takes over at the stop.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
                libc::raise(libc::SIGSTOP);
                libc::_exit(1);
            }
        }
        let mut cpu = Cpu {
            pid,
            code,
            input,
            output,
            pages,
        };
        let signal = cpu.wait()?;
        if signal != libc::SIGSTOP {
            return Err(io::Error::other(format!("the child stopped with signal {signal}")));
        }
        let mut regs = cpu.get_regs()?;
        regs.fs_base = FS_BASE;
        regs.gs_base = GS_BASE;
        regs.orig_rax = u64::MAX;
        cpu.set_regs(&regs)?;
        Ok(cpu)
    }

    /// The memory of a slot, which the case may use. Between batches only: no case runs then.
    pub fn page(&mut self, slot: usize) -> &mut [u8] {
        assert!(slot < SLOTS);
        // SAFETY: within the mapping, which lives as long as `self`; the child is stopped while `self` is borrowed here.
        unsafe { std::slice::from_raw_parts_mut(self.pages.add(slot * PAGE), PAGE) }
    }

    /// Runs the cases in the slots 0, 1, ...; gives an answer for each.
    pub fn run(&mut self, requests: &[Request<'_>]) -> io::Result<Vec<Answer>> {
        assert!(!requests.is_empty() && requests.len() <= SLOTS);
        for (i, request) in requests.iter().enumerate() {
            self.load(i, request);
        }
        let mut answers: Vec<Option<Answer>> = vec![None; requests.len()];
        // What comes after the last case is an int3 where the next slot would begin.
        let end = stub::CODE + (requests.len() * SLOT) as u64;
        // SAFETY: the child is stopped, and the byte is in the code mapping.
        let saved = unsafe { self.code.add(requests.len() * SLOT).replace(0xcc) };
        let mut at = stub::CODE;
        loop {
            let mut regs = self.get_regs()?;
            regs.rip = at;
            regs.eflags = 0x202;
            self.set_regs(&regs)?;
            self.resume(libc::PTRACE_CONT)?;
            let mut signal = self.wait()?;
            let mut regs = self.get_regs()?;
            if signal == libc::SIGTRAP && regs.rip == end + 1 {
                break;
            }
            let slot = (regs.rip.wrapping_sub(stub::CODE) / SLOT as u64) as usize;
            if slot >= requests.len() {
                return Err(io::Error::other(format!(
                    "signal {signal} outside the slots, at {:#x}",
                    regs.rip
                )));
            }
            let stepped = requests[slot].step && signal == libc::SIGTRAP && regs.rip == stub::entry(slot);
            if stepped {
                self.resume(libc::PTRACE_SINGLESTEP)?;
                signal = self.wait()?;
                regs = self.get_regs()?;
            }
            let moved = stepped && regs.rip != stub::entry(slot);
            answers[slot] = Some(if moved {
                // A computed jump to an address that cannot be executed may fault at its target: the jump is done.
                Answer::Done(Box::new(self.stepped(slot, &regs)))
            } else {
                Answer::Signal(signal, regs.rip)
            });
            at = stub::CODE + ((slot + 1) * SLOT) as u64;
        }
        // SAFETY: as above.
        unsafe { self.code.add(requests.len() * SLOT).write(saved) };
        Ok(answers
            .into_iter()
            .enumerate()
            .map(|(i, answer)| {
                answer.unwrap_or_else(|| Answer::Done(Box::new(self.stored(i, requests[i].bytes.len()))))
            })
            .collect())
    }

    fn load(&mut self, slot: usize, request: &Request<'_>) {
        let bytes = request.bytes;
        assert!(bytes.len() <= GAP && request.regs.rip == stub::entry(slot));
        // SAFETY: slot < SLOTS, so all offsets are within the two mappings; the child is stopped.
        unsafe {
            let gap = self.code.add(slot * SLOT + stub::ENTRY);
            gap.sub(1).write(if request.step { 0xcc } else { 0x90 });
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), gap, bytes.len());
            std::ptr::write_bytes(gap.add(bytes.len()), 0x90, GAP - bytes.len());
            let state = self.input.add(slot * STATE);
            let regs = request.regs;
            for (i, v) in regs.gpr.iter().enumerate() {
                state.add(stub::GPR + 8 * i).cast::<u64>().write(*v);
            }
            state.add(stub::FLAGS).cast::<u64>().write(regs.rflags);
            state.add(stub::MXCSR).cast::<u32>().write(regs.mxcsr);
            for i in 0..16 {
                let ymm = state.add(stub::YMM + 32 * i).cast::<u128>();
                ymm.write_unaligned(regs.xmm[i]);
                ymm.add(1).write_unaligned(regs.ymm_high[i]);
            }
        }
    }

    fn stored(&self, slot: usize, len: usize) -> Regs {
        let mut regs = Regs {
            rip: stub::entry(slot) + len as u64,
            fs_base: FS_BASE,
            gs_base: GS_BASE,
            ..Regs::default()
        };
        // SAFETY: within the mapping; the child is stopped.
        unsafe {
            let state = self.output.add(slot * STATE);
            for (i, v) in regs.gpr.iter_mut().enumerate() {
                *v = state.add(stub::GPR + 8 * i).cast::<u64>().read();
            }
            regs.rflags = state.add(stub::FLAGS).cast::<u64>().read();
            regs.mxcsr = state.add(stub::MXCSR).cast::<u32>().read();
            for i in 0..16 {
                let ymm = state.add(stub::YMM + 32 * i).cast::<u128>();
                regs.xmm[i] = ymm.read_unaligned();
                regs.ymm_high[i] = ymm.add(1).read_unaligned();
            }
        }
        regs
    }

    /// The state after a step: general registers and flags from ptrace; control flow leaves vectors and MXCSR alone.
    fn stepped(&self, slot: usize, user: &libc::user_regs_struct) -> Regs {
        let mut regs = Regs {
            gpr: [
                user.rax, user.rcx, user.rdx, user.rbx, user.rsp, user.rbp, user.rsi, user.rdi, user.r8, user.r9,
                user.r10, user.r11, user.r12, user.r13, user.r14, user.r15,
            ],
            rip: user.rip,
            rflags: user.eflags & !0x1_0100,
            fs_base: FS_BASE,
            gs_base: GS_BASE,
            ..Regs::default()
        };
        // SAFETY: within the mapping of the states to load; the child is stopped.
        unsafe {
            let state = self.input.add(slot * STATE);
            regs.mxcsr = state.add(stub::MXCSR).cast::<u32>().read();
            for i in 0..16 {
                let ymm = state.add(stub::YMM + 32 * i).cast::<u128>();
                regs.xmm[i] = ymm.read_unaligned();
                regs.ymm_high[i] = ymm.add(1).read_unaligned();
            }
        }
        regs
    }

    /// The signal that stopped the child.
    fn wait(&mut self) -> io::Result<i32> {
        let mut status = 0;
        // SAFETY: the pointer is to a local.
        if unsafe { libc::waitpid(self.pid, &mut status, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        if libc::WIFSTOPPED(status) {
            Ok(libc::WSTOPSIG(status))
        } else {
            Err(io::Error::other(format!("the child is gone: wait status {status:#x}")))
        }
    }

    fn resume(&mut self, how: libc::c_uint) -> io::Result<()> {
        // SAFETY: no pointers: address and signal are 0.
        if unsafe { libc::ptrace(how, self.pid, 0, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn get_regs(&self) -> io::Result<libc::user_regs_struct> {
        // SAFETY: the structure is plain integers, and ptrace fills it.
        let mut regs: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a local of the right type.
        if unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.pid, 0, &mut regs) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(regs)
    }

    fn set_regs(&mut self, regs: &libc::user_regs_struct) -> io::Result<()> {
        // SAFETY: the pointer is to a structure of the right type.
        if unsafe { libc::ptrace(libc::PTRACE_SETREGS, self.pid, 0, regs) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl Drop for Cpu {
    fn drop(&mut self) {
        // SAFETY: our own child, by its id, and our own mappings, which no borrow outlives.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
            libc::munmap(self.code.cast(), SLOTS * SLOT + 4096);
            libc::munmap(self.input.cast(), SLOTS * STATE);
            libc::munmap(self.output.cast(), SLOTS * STATE);
            libc::munmap(self.pages.cast(), SLOTS * PAGE);
        }
    }
}
