//! Executing one instruction of the target on this processor.
//!
//! An instruction is re-encoded with its memory operand replaced by a scratch slot of ours
//! and put into a stub that loads the target's registers and flags, executes it and stores
//! them again:
//!
//! ```text
//!   save the host's registers          (xrstor the target's vector state)
//!   push [flags]; popfq
//!   mov rax, [state + 0] ... mov r15, [state + 120]      all but rsp
//!   INSTRUCTION                                          [rip + scratch] for its memory
//!   mov [state + 0], rax ... mov [state + 120], r15
//!   pushfq; pop [flags]                (xsave; the host's mxcsr and x87 back)
//!   restore the host's registers; ret
//! ```
//!
//! The answer is the processor's own, undefined flags included.
//!
//! # What may be executed
//!
//! The bytes are the target's choice, and the target may be hostile. So only what is on a list may
//! run: integer instructions by name, and vector and x87 instructions by the features
//! of this processor that they need. Nothing on it branches, reads or writes memory other
//! than through its one explicit operand, touches rsp (an operand rsp is replaced by another
//! register), segments, control or debug state, or can fault: divisions are checked before,
//! aligned operands keep their alignment in the scratch slot and are checked, and vector and x87
//! code runs only with all exceptions masked.

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use iced_x86::{
    CpuidFeature, Encoder, EncodingKind, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register,
};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use redmagic_tracee::regs::Gprs;
use rustc_hash::FxHashMap;

/// Bytes of code; stubs are about 350 bytes each. When it is full, all are dropped.
const CODE_BYTES: usize = 4 << 20;
/// No stub is longer.
const STUB_BYTES: usize = 1024;
const DATA_BYTES: usize = 64 << 10;

// Offsets in the data part.
const GPR: usize = 0;
const FLAGS: usize = 128;
const HOST_RSP: usize = 136;
const HOST_MXCSR: usize = 144;
const XSAVE: usize = 1024;
const SCRATCH: usize = 8192;

/// x87, SSE, AVX, opmask, both ZMM parts, as far as the processor has them.
const XSAVE_MASK: u64 = 0xe7;
/// Bytes of the XSAVE image up to the last of these.
pub(crate) const XSAVE_BYTES: usize = 2688;

/// CF, PF, AF, ZF, SF, OF.
pub(crate) const STATUS: u64 = 0x8d5;

/// Why an instruction is not executed here.
pub(crate) type Refused = &'static str;

/// Bytes of the largest memory operand.
pub(crate) const MAX_OPERAND: usize = 64;

/// What must hold of the values, or the instruction would fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// The operand's address is a multiple of its size.
    Alignment,
    /// The quotient of `div` or, if true, `idiv` fits.
    Quotient(bool),
    /// The new control word masks all floating-point exceptions.
    Masked,
}

/// A prepared instruction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stub {
    /// Offset of its code.
    entry: usize,
    /// Number of the register that stands in for rsp.
    substitute: Option<u8>,
    needs: Needs,
}

/// The executor: a region with stubs and their data.
#[derive(Debug)]
pub(crate) struct Host {
    /// Where stubs run: read and execute. Data follows it, so that stubs reach it.
    base: NonNull<u8>,
    /// The same pages of code, writable.
    writable: NonNull<u8>,
    used: usize,
    mask: u64,
    /// Stubs by their instruction (where a memory operand is, is no part of it) and by what stands in for rsp.
    stubs: FxHashMap<(Instruction, Option<Register>), Stub>,
}

impl Host {
    /// Maps the region.
    ///
    /// # Errors
    /// Those of memfd_create, ftruncate and mmap.
    pub(crate) fn new() -> std::io::Result<Host> {
        // Asking the processor takes a millisecond in a virtual machine: not while a thread waits.
        let _ = [CpuidFeature::SSE3, CpuidFeature::RDTSCP].map(has);
        let file = std::fs::File::from(memfd_create("redmagic-emulate", MFdFlags::MFD_CLOEXEC)?);
        file.set_len(CODE_BYTES as u64)?;
        let all = NonZeroUsize::new(CODE_BYTES + DATA_BYTES).expect("not zero");
        let code = NonZeroUsize::new(CODE_BYTES).expect("not zero");
        let write = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let run = ProtFlags::PROT_READ | ProtFlags::PROT_EXEC;
        // SAFETY: fresh mappings; the fixed one replaces the first part of the one just made.
        unsafe {
            let base = mmap_anonymous(None, all, write, MapFlags::MAP_PRIVATE)?;
            let at = NonZeroUsize::new(base.as_ptr() as usize);
            mmap(at, code, run, MapFlags::MAP_SHARED | MapFlags::MAP_FIXED, &file, 0)?;
            let writable = mmap(None, code, write, MapFlags::MAP_SHARED, &file, 0)?;
            let (low, high): (u32, u32);
            // xgetbv: which components the system has enabled.
            std::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack));
            Ok(Host {
                base: base.cast(),
                writable: writable.cast(),
                used: 0,
                stubs: FxHashMap::default(),
                mask: (u64::from(high) << 32 | u64::from(low)) & XSAVE_MASK,
            })
        }
    }

    fn data(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset < DATA_BYTES);
        // SAFETY: inside the mapping.
        unsafe { self.base.as_ptr().add(CODE_BYTES + offset) }
    }

    /// Takes a target's vector state (standard XSAVE form). What a header says that this
    /// processor could not restore is dropped.
    pub(crate) fn set_vectors(&mut self, image: &[u8]) -> Result<(), Refused> {
        let mut area = [0u8; XSAVE_BYTES];
        if image.len() < 576 {
            return Err("no vector state");
        }
        let n = image.len().min(XSAVE_BYTES);
        area[..n].copy_from_slice(&image[..n]);
        let present = u64::from_le_bytes(area[512..520].try_into().expect("eight bytes")) & self.mask;
        area[512..520].copy_from_slice(&present.to_le_bytes());
        area[520..576].fill(0);
        // With x87 not present its control word is the initial one, all masked.
        if present & 1 != 0 {
            masked(&area[..2])?;
        }
        masked(&area[24..28])?;
        // SAFETY: the area is inside the data part.
        unsafe { std::ptr::copy_nonoverlapping(area.as_ptr(), self.data(XSAVE), XSAVE_BYTES) };
        Ok(())
    }

    /// The vector state.
    pub(crate) fn vectors(&self) -> Vec<u8> {
        // SAFETY: inside the data part, written by stubs that have ended.
        unsafe { std::slice::from_raw_parts(self.data(XSAVE), XSAVE_BYTES) }.to_vec()
    }

    /// Executes `instruction`, whose stub this is, with `operand` as the content of its memory operand at
    /// `address`; both registers and content are changed as it says. Does not move rip.
    pub(crate) fn execute(
        &mut self,
        stub: Stub,
        instruction: &Instruction,
        regs: &mut Gprs,
        address: u64,
        operand: &mut [u8],
    ) -> Result<(), Refused> {
        assert!(operand.len() <= MAX_OPERAND && stub.entry < self.used);
        match stub.needs {
            Needs::Nothing => {}
            Needs::Alignment => {
                if !address.is_multiple_of((operand.len() as u64).max(1)) {
                    return Err("a misaligned operand");
                }
            }
            Needs::Quotient(signed) => division(instruction, regs, operand, signed)?,
            Needs::Masked => masked(operand)?,
        }
        let substitute = stub
            .substitute
            .map(|number| (usize::from(number), regs[usize::from(number)]));
        if let Some((number, _)) = substitute {
            regs[number] = regs.rsp;
        }
        // SAFETY: state, flags and the scratch slot lie in the data part, which is larger than their offsets and sizes. The stub is
        // code of the form above, with an instruction that `allowed` admits and that, by the checks above, does not fault: it
        // changes only the data part, and registers that the asm block declares or the stub itself restores.
        unsafe {
            std::ptr::copy_nonoverlapping(operand.as_ptr(), self.data(SCRATCH), operand.len());
            let state = self.data(GPR).cast::<u64>();
            for i in 0..16 {
                state.add(i).write(regs[i]);
            }
            self.data(FLAGS).cast::<u64>().write(regs.rflags & STATUS | 0x202);
            let entry = self.base.as_ptr().add(stub.entry);
            std::arch::asm!("call {entry}", entry = in(reg) entry, clobber_abi("C"));
            for i in 0..16 {
                regs[i] = state.add(i).read();
            }
            let flags = self.data(FLAGS).cast::<u64>().read();
            regs.rflags = regs.rflags & !STATUS | flags & STATUS;
            std::ptr::copy_nonoverlapping(self.data(SCRATCH), operand.as_mut_ptr(), operand.len());
        }
        if let Some((number, before)) = substitute {
            regs.rsp = regs[number];
            regs[number] = before;
        }
        Ok(())
    }

    /// Whether there may be no place for another stub.
    pub(crate) fn is_full(&self) -> bool {
        self.used + STUB_BYTES > CODE_BYTES
    }

    /// Forgets all stubs: none that was given out may be executed again.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
        self.stubs.clear();
    }

    /// Makes a stub for an instruction.
    pub(crate) fn stub(&mut self, instruction: &Instruction) -> Result<Stub, Refused> {
        if self.is_full() {
            return Err("no place for another stub");
        }
        self.assemble(instruction)
    }

    fn assemble(&mut self, instruction: &Instruction) -> Result<Stub, Refused> {
        let vector = allowed(instruction)?;
        let (rewritten, substitute) = rewrite(instruction, self.data(SCRATCH) as u64)?;
        if let Some(stub) = self.stubs.get(&(rewritten, substitute)) {
            return Ok(*stub);
        }
        let start = self.base.as_ptr() as u64 + self.used as u64;
        let mut code = Code64 {
            bytes: Vec::with_capacity(512),
            start,
            data: self.data(0) as u64,
        };
        code.bytes(&[0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57]); // push rbx, rbp, r12-r15
        code.data(&[0x48, 0x89, 0x25], HOST_RSP); // mov [host_rsp], rsp
        if vector {
            code.data(&[0x0f, 0xae, 0x1d], HOST_MXCSR); // stmxcsr
            code.xsave_mask(self.mask);
            code.data(&[0x48, 0x0f, 0xae, 0x2d], XSAVE); // xrstor64
        }
        code.data(&[0xff, 0x35], FLAGS); // push [flags]
        code.bytes(&[0x9d]); // popfq
        for register in (0..16u8).filter(|r| *r != 4) {
            code.data(
                &[0x48 | (register >> 3) << 2, 0x8b, 0x05 | (register & 7) << 3],
                GPR + usize::from(register) * 8,
            );
        }
        code.instruction(&rewritten)?;
        for register in (0..16u8).filter(|r| *r != 4) {
            code.data(
                &[0x48 | (register >> 3) << 2, 0x89, 0x05 | (register & 7) << 3],
                GPR + usize::from(register) * 8,
            );
        }
        code.bytes(&[0x9c]); // pushfq
        code.data(&[0x8f, 0x05], FLAGS); // pop [flags]
        if vector {
            code.xsave_mask(self.mask);
            code.data(&[0x48, 0x0f, 0xae, 0x25], XSAVE); // xsave64
            code.bytes(&[0xdb, 0xe3]); // fninit: the x87 state that Rust code expects
            code.data(&[0x0f, 0xae, 0x15], HOST_MXCSR); // ldmxcsr
            if self.mask & 4 != 0 {
                code.bytes(&[0xc5, 0xf8, 0x77]); // vzeroupper
            }
        }
        code.bytes(&[0xfc]); // cld
        code.data(&[0x48, 0x8b, 0x25], HOST_RSP); // mov rsp, [host_rsp]
        code.bytes(&[0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3]);
        let entry = self.used;
        assert!(code.bytes.len() <= STUB_BYTES);
        // SAFETY: the caller has made sure of this many bytes; nothing runs here now.
        unsafe {
            std::ptr::copy_nonoverlapping(code.bytes.as_ptr(), self.writable.as_ptr().add(entry), code.bytes.len())
        };
        self.used = (entry + code.bytes.len()).next_multiple_of(16);
        let stub = Stub {
            entry,
            substitute: substitute.map(|register| register.number() as u8),
            needs: needs(instruction),
        };
        self.stubs.insert((rewritten, substitute), stub);
        Ok(stub)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with these sizes; nothing runs in them.
        unsafe {
            let _ = munmap(self.base.cast(), CODE_BYTES + DATA_BYTES);
            let _ = munmap(self.writable.cast(), CODE_BYTES);
        }
    }
}

/// A stub in the making.
struct Code64 {
    bytes: Vec<u8>,
    start: u64,
    data: u64,
}

impl Code64 {
    fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// `opcode` with a RIP-relative operand in the data part.
    fn data(&mut self, opcode: &[u8], offset: usize) {
        self.bytes(opcode);
        let next = self.start + self.bytes.len() as u64 + 4;
        let displacement = (self.data + offset as u64).wrapping_sub(next) as i32;
        self.bytes(&displacement.to_le_bytes());
    }

    /// `mov eax, low; mov edx, high`
    fn xsave_mask(&mut self, mask: u64) {
        self.bytes(&[0xb8]);
        self.bytes(&(mask as u32).to_le_bytes());
        self.bytes(&[0xba]);
        self.bytes(&((mask >> 32) as u32).to_le_bytes());
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<(), Refused> {
        let mut encoder = Encoder::new(64);
        encoder
            .encode(instruction, self.start + self.bytes.len() as u64)
            .map_err(|_| "cannot be encoded elsewhere")?;
        self.bytes(&encoder.take_buffer());
        Ok(())
    }
}

/// The instruction with its memory in the scratch slot and rsp replaced.
fn rewrite(instruction: &Instruction, scratch: u64) -> Result<(Instruction, Option<Register>), Refused> {
    let mut out = *instruction;
    let has_memory = (0..out.op_count()).any(|i| out.op_kind(i) == OpKind::Memory);
    if has_memory {
        out.set_memory_base(Register::RIP);
        out.set_memory_index(Register::None);
        out.set_memory_index_scale(1);
        out.set_memory_displ_size(8);
        out.set_memory_displacement64(scratch);
        out.set_segment_prefix(Register::None);
    }
    let is_rsp = |r: Register| r.is_gpr() && r.full_register() == Register::RSP;
    let uses_rsp = (0..out.op_count()).any(|i| out.op_kind(i) == OpKind::Register && is_rsp(out.op_register(i)));
    if !uses_rsp {
        return Ok((out, None));
    }
    let mut info = InstructionInfoFactory::new();
    let used: Vec<Register> = info
        .info(&out)
        .used_registers()
        .iter()
        .map(|u| u.register().full_register())
        .collect();
    let free = [Register::RBX, Register::RCX, Register::RDX, Register::RAX]
        .into_iter()
        .find(|r| !used.contains(r))
        .ok_or("no register to stand in for rsp")?;
    for i in 0..out.op_count() {
        if out.op_kind(i) == OpKind::Register && is_rsp(out.op_register(i)) {
            let offset = free.number() as u32;
            let sized = match out.op_register(i).size() {
                8 => Register::RAX,
                4 => Register::EAX,
                2 => Register::AX,
                _ => Register::AL,
            };
            out.set_op_register(i, sized + offset);
        }
    }
    Ok((out, Some(free)))
}

/// Whether an instruction may be executed here, and whether it needs the vector state.
fn allowed(instruction: &Instruction) -> Result<bool, Refused> {
    use Mnemonic as M;
    if instruction.flow_control() != FlowControl::Next
        || instruction.is_privileged()
        || instruction.is_stack_instruction()
        || instruction.is_string_instruction()
        || instruction.is_vsib()
        || instruction.has_xacquire_prefix()
        || instruction.has_xrelease_prefix()
    {
        return Err("not a plain instruction");
    }
    let segment = |r: Register| r.is_segment_register() || r.is_cr() || r.is_dr() || r.is_tr();
    if (0..instruction.op_count())
        .any(|i| instruction.op_kind(i) == OpKind::Register && segment(instruction.op_register(i)))
    {
        return Err("a segment or control register");
    }
    if matches!(instruction.segment_prefix(), Register::GS) {
        return Err("gs-relative");
    }
    let memory = (0..instruction.op_count()).any(|i| instruction.op_kind(i) == OpKind::Memory);
    let integer = matches!(
        instruction.mnemonic(),
        M::Adc
            | M::Add
            | M::And
            | M::Bsf
            | M::Bsr
            | M::Bswap
            | M::Cbw
            | M::Cdq
            | M::Cdqe
            | M::Clc
            | M::Cmc
            | M::Cmova
            | M::Cmovae
            | M::Cmovb
            | M::Cmovbe
            | M::Cmove
            | M::Cmovg
            | M::Cmovge
            | M::Cmovl
            | M::Cmovle
            | M::Cmovne
            | M::Cmovno
            | M::Cmovnp
            | M::Cmovns
            | M::Cmovo
            | M::Cmovp
            | M::Cmovs
            | M::Cmp
            | M::Cmpxchg
            | M::Cmpxchg8b
            | M::Cpuid
            | M::Cqo
            | M::Cwd
            | M::Cwde
            | M::Dec
            | M::Div
            | M::Idiv
            | M::Imul
            | M::Inc
            | M::Lahf
            | M::Lfence
            | M::Mfence
            | M::Mov
            | M::Movsx
            | M::Movsxd
            | M::Movzx
            | M::Mul
            | M::Neg
            | M::Nop
            | M::Not
            | M::Or
            | M::Pause
            | M::Rcl
            | M::Rcr
            | M::Rol
            | M::Ror
            | M::Sahf
            | M::Sal
            | M::Sar
            | M::Sbb
            | M::Seta
            | M::Setae
            | M::Setb
            | M::Setbe
            | M::Sete
            | M::Setg
            | M::Setge
            | M::Setl
            | M::Setle
            | M::Setne
            | M::Setno
            | M::Setnp
            | M::Setns
            | M::Seto
            | M::Setp
            | M::Sets
            | M::Sfence
            | M::Shl
            | M::Shld
            | M::Shr
            | M::Shrd
            | M::Stc
            | M::Sub
            | M::Test
            | M::Xadd
            | M::Xchg
            | M::Xor
            | M::Rdtsc
            | M::Xgetbv
    );
    let bits = matches!(instruction.mnemonic(), M::Bt | M::Btc | M::Btr | M::Bts)
        // With a register offset the memory operand is somewhere else.
        && !(memory && instruction.op1_kind() == OpKind::Register);
    if integer || bits {
        return Ok(false);
    }
    if instruction.cpuid_features().iter().all(|feature| has(*feature)) {
        return match instruction.mnemonic() {
            M::Andn
            | M::Bextr
            | M::Blsi
            | M::Blsmsk
            | M::Blsr
            | M::Bzhi
            | M::Lzcnt
            | M::Mulx
            | M::Pdep
            | M::Pext
            | M::Popcnt
            | M::Rorx
            | M::Sarx
            | M::Shlx
            | M::Shrx
            | M::Tzcnt
            | M::Movbe
            | M::Crc32
            | M::Cmpxchg16b
            | M::Rdtscp => Ok(false),
            M::Maskmovq
            | M::Maskmovdqu
            | M::Vmaskmovdqu
            | M::Vmaskmovps
            | M::Vmaskmovpd
            | M::Vpmaskmovd
            | M::Vpmaskmovq
            | M::Fldenv
            | M::Frstor
            | M::Fnsave
            | M::Fnstenv
            | M::Fsave
            | M::Fstenv
            | M::Clflush
            | M::Monitor
            | M::Mwait
            | M::Emms => Err("floating-point state or masked access"),
            _ => Ok(true),
        };
    }
    Err("not on the list")
}

/// Of an x87 control word (two bytes) or an MXCSR (four), in which reserved bits fault.
fn masked(operand: &[u8]) -> Result<(), Refused> {
    let all = match *operand {
        [a, b] => u16::from_le_bytes([a, b]) & 0x3f == 0x3f,
        [a, b, c, d] => {
            let mxcsr = u32::from_le_bytes([a, b, c, d]);
            mxcsr & 0x1f80 == 0x1f80 && mxcsr >> 16 == 0
        }
        _ => false,
    };
    if all {
        Ok(())
    } else {
        Err("unmasked floating-point exceptions")
    }
}

/// Whether this processor has a feature that instructions on the list may need.
fn has(feature: CpuidFeature) -> bool {
    use CpuidFeature as F;
    match feature {
        // Of the baseline, what is not named above is x87.
        F::FPU | F::SSE | F::SSE2 | F::FPU287 | F::FPU387 => true,
        F::SSE3 => std::is_x86_feature_detected!("sse3"),
        F::SSSE3 => std::is_x86_feature_detected!("ssse3"),
        F::SSE4_1 => std::is_x86_feature_detected!("sse4.1"),
        F::SSE4_2 => std::is_x86_feature_detected!("sse4.2"),
        F::AVX => std::is_x86_feature_detected!("avx"),
        F::AVX2 => std::is_x86_feature_detected!("avx2"),
        F::FMA => std::is_x86_feature_detected!("fma"),
        F::BMI1 => std::is_x86_feature_detected!("bmi1"),
        F::BMI2 => std::is_x86_feature_detected!("bmi2"),
        F::POPCNT => std::is_x86_feature_detected!("popcnt"),
        F::LZCNT => std::is_x86_feature_detected!("lzcnt"),
        F::CMPXCHG16B => std::is_x86_feature_detected!("cmpxchg16b"),
        // AMD's manual, volume 3, appendix D: the bit that Linux calls rdtscp.
        F::RDTSCP => std::arch::x86_64::__cpuid(0x8000_0001).edx >> 27 & 1 == 1,
        F::MOVBE => std::is_x86_feature_detected!("movbe"),
        F::AES => std::is_x86_feature_detected!("aes"),
        F::PCLMULQDQ => std::is_x86_feature_detected!("pclmulqdq"),
        F::AVX512F => std::is_x86_feature_detected!("avx512f"),
        F::AVX512VL => std::is_x86_feature_detected!("avx512vl"),
        F::AVX512BW => std::is_x86_feature_detected!("avx512bw"),
        F::AVX512DQ => std::is_x86_feature_detected!("avx512dq"),
        F::AVX512CD => std::is_x86_feature_detected!("avx512cd"),
        _ => false,
    }
}

/// What must be checked of the values each time.
fn needs(instruction: &Instruction) -> Needs {
    use Mnemonic as M;
    let memory = (0..instruction.op_count()).any(|i| instruction.op_kind(i) == OpKind::Memory);
    match instruction.mnemonic() {
        M::Div => Needs::Quotient(false),
        M::Idiv => Needs::Quotient(true),
        M::Movups | M::Movupd | M::Movdqu | M::Lddqu => Needs::Nothing,
        M::Cmpxchg16b => Needs::Alignment,
        M::Fldcw | M::Ldmxcsr | M::Vldmxcsr => Needs::Masked,
        M::Vmovaps
        | M::Vmovapd
        | M::Vmovdqa
        | M::Vmovdqa32
        | M::Vmovdqa64
        | M::Vmovntps
        | M::Vmovntpd
        | M::Vmovntdq
        | M::Vmovntdqa
            if memory =>
        {
            Needs::Alignment
        }
        // SSE operands of 16 bytes must be aligned, and there are no larger ones.
        _ if memory && instruction.encoding() == EncodingKind::Legacy && instruction.memory_size().size() == 16 => {
            Needs::Alignment
        }
        _ => Needs::Nothing,
    }
}

/// Whether a division has a quotient that fits.
fn division(instruction: &Instruction, regs: &Gprs, operand: &[u8], signed: bool) -> Result<(), Refused> {
    let (size, divisor) = match instruction.op0_kind() {
        OpKind::Register => {
            let register = instruction.op0_register();
            let full = regs[register.full_register().number()];
            let high = matches!(register, Register::AH | Register::BH | Register::CH | Register::DH);
            (register.size(), if high { full >> 8 } else { full })
        }
        _ => {
            let mut bytes = [0; 8];
            bytes[..operand.len().min(8)].copy_from_slice(&operand[..operand.len().min(8)]);
            (operand.len(), u64::from_le_bytes(bytes))
        }
    };
    let bits = size as u32 * 8;
    let mask = if bits == 64 {
        u128::from(u64::MAX)
    } else {
        (1u128 << bits) - 1
    };
    let dividend = if size == 1 {
        u128::from(regs.rax & 0xffff)
    } else {
        (u128::from(regs.rdx) & mask) << bits | (u128::from(regs.rax) & mask)
    };
    let divisor = u128::from(divisor) & mask;
    let fits = if signed {
        let extend = |value: u128, bits: u32| (value << (128 - bits)) as i128 >> (128 - bits);
        let (dividend, divisor) = (extend(dividend, bits * 2), extend(divisor, bits));
        let limit = 1i128 << (bits - 1);
        divisor != 0
            && dividend
                .checked_div(divisor)
                .is_some_and(|quotient| (-limit..limit).contains(&quotient))
    } else {
        divisor != 0 && dividend / divisor <= mask
    };
    if fits { Ok(()) } else { Err("a division that faults") }
}
