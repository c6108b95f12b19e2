//! What the readers of foreign bytes must hold for any input: an error with a place, or a value that is as good as one
//! made by the program itself. Never a panic.
//!
//! The same functions are the targets of `cargo fuzz` (`fuzz/`), and run on damaged samples in the tests.

use redmagic_engine::lift;
use redmagic_ir::eval::{Evaluator, Regs, SparseMemory};
use redmagic_ir::{parse, verify};
use redmagic_proto::ApiFn;
use redmagic_record::codec;
use redmagic_record::recording::{
    AccessKind, Anchor, AnchorKind, Api, Bytes, End, ImageRange, Inst, InstBytes, LibraryCall, LibraryFn, MemAccess,
    Meta, NativeRegion, Recording, RegisterFile, Residual, ShimCall, ShimExecution, Step,
};
use smallvec::smallvec;

use crate::random::Random;

/// Text as IR. What is read is valid, is printed as text that reads back as the same, and is evaluated without a panic.
/// Says whether it was read.
///
/// # Panics
/// When one of these does not hold.
pub fn ir_text(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let trace = match parse::parse(&text) {
        Ok(trace) => trace,
        Err(error) => {
            let lines = text.lines().count().max(1) as u32;
            assert!(
                (1..=lines + 1).contains(&error.line) && error.column >= 1 && !error.to_string().is_empty(),
                "{error:?}"
            );
            return false;
        }
    };
    let found = verify::violations(&trace);
    assert!(found.is_empty(), "{found:#?}\n{trace}");
    let printed = trace.to_string();
    assert_eq!(parse::parse(&printed), Ok(trace.normalized()), "{printed}");
    let mut evaluator = Evaluator::new();
    evaluator.iterations = 2;
    evaluator.elements = 64;
    let mut memory = SparseMemory::new();
    memory.map(0x1000, vec![0x41; 4096]);
    let _ = evaluator.run(&trace, &mut Regs::default(), &mut memory);
    true
}

/// Bytes as a Recording file, and as the body of one that is otherwise right. What is read is written as something that reads
/// back as the same, and is lifted to a valid trace or refused with a place. Says whether it was read.
///
/// # Panics
/// When one of these does not hold.
pub fn recording(data: &[u8]) -> bool {
    let mut read = false;
    for result in [codec::decode(data), codec::decode(&codec::seal(data))] {
        let recording = match result {
            Ok(recording) => recording,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        read = true;
        let again = codec::encode(&recording).and_then(|bytes| codec::decode(&bytes));
        assert_eq!(again.expect("what was read can be written"), recording);
        if let Ok((trace, _)) = lift::lift(&recording) {
            let found = verify::violations(&trace);
            assert!(found.is_empty(), "{found:#?}\n{trace}");
        }
    }
    read
}

/// Damages `data` in one to four places: bits, bytes, pieces lost, repeated or moved, and words out of `words` put in.
pub fn damage(random: &mut Random, data: &[u8], words: &[&[u8]]) -> Vec<u8> {
    let mut out = data.to_vec();
    for _ in 0..=random.below(4) {
        if out.is_empty() {
            break;
        }
        let len = out.len() as u64;
        let at = random.below(len) as usize;
        let end = at + random.below(((len - at as u64) + 1).min(24)) as usize;
        match random.below(8) {
            0 => out[at] ^= 1 << random.below(8),
            1 => out[at] = random.bits() as u8,
            2 => drop(out.drain(at..end)),
            3 => out.truncate(at),
            4 => {
                let piece = out[at..end].to_vec();
                let to = random.below(out.len() as u64) as usize;
                out.splice(to..to, piece);
            }
            5 => out[at] = *random.pick(&[0, 1, 0x7f, 0x80, 250, 251, 252, 253, 254, 255]),
            _ if words.is_empty() => out.insert(at, random.bits() as u8),
            _ => {
                let word = random.pick(words).to_vec();
                let replaced = if random.one_in(2) { end } else { at };
                out.splice(at..replaced, word);
            }
        }
    }
    out
}

/// A Recording with a step of each kind, which lifts to a whole trace but for its last step.
pub fn sample() -> Recording {
    let registers = RegisterFile {
        gpr: std::array::from_fn(|i| i as u64 * 0x0101_0101_0101),
        rip: 0x1000,
        rflags: 0x246,
        fs_base: 0x7f00_0000,
        gs_base: 0,
        xsave: vec![0; 64],
    };
    let inst = |ip, bytes: &[u8], next_ip| Inst {
        ip,
        bytes: InstBytes::new(bytes).expect("1 to 15 bytes"),
        next_ip,
        mem: smallvec![MemAccess {
            addr: 0x7000,
            size: 8,
            kind: AccessKind::ReadWrite,
            value: Bytes::from(&[1u8, 2, 3, 4, 5, 6, 7, 8][..]),
        }],
    };
    let shim = |ip, api: ApiFn, return_address, action| {
        Step::from(ShimCall {
            call: inst(ip, &[0xe8, 0, 1, 0, 0], ip + 0x105),
            api: Api(api as u8),
            args: [7, 8],
            return_address,
            rsp: 0x7000,
            result: 1,
            action,
        })
    };
    let image = |start: u64, path: &str, own| ImageRange {
        start,
        end: start + 0x1000,
        path: path.into(),
        own,
    };
    Recording {
        meta: Meta {
            pid: 7,
            tid: 7,
            program: "/bin/vm".into(),
            ..Meta::default()
        },
        images: vec![image(0x1000, "/bin/vm", true), image(0x9000, "/lib/libm", false)],
        anchor: Anchor::Root {
            kind: AnchorKind(ApiFn::BackwardsBranch as u8),
            id: 7,
            return_address: 0x1000,
        },
        start: registers.clone(),
        steps: vec![
            Step::Inst(inst(0x1000, &[0x48, 0x8b, 0x07], 0x1003)),
            Step::Inst(inst(0x1003, &[0xf2, 0x0f, 0x58, 0x47, 0x08], 0x1008)),
            Step::Inst(inst(0x1008, &[0x48, 0x39, 0xc1], 0x100b)),
            Step::Inst(inst(0x100b, &[0x75, 0x10], 0x101d)),
            Step::Inst(inst(0x101d, &[0xff, 0xe2], 0x1100)),
            Step::Inst(inst(0x1100, &[0xf3, 0xa4], 0x1102)),
            Step::from(Residual {
                call: inst(0x1102, &[0xff, 0xd0], 0x9010),
                target: 0x9010,
                return_address: 0x1104,
                after: registers.clone(),
                library: Some(LibraryCall {
                    function: LibraryFn::Memset,
                    args: [1, 0, 16],
                }),
            }),
            shim(0x1104, ApiFn::Promote, 0x1109, ShimExecution::Skipped),
            shim(
                0x1109,
                ApiFn::IsTraced,
                0x110e,
                ShimExecution::Executed(Box::new(registers.clone())),
            ),
            Step::Inst(inst(0x110e, &[0x0f, 0xa2], 0x1110)),
            Step::from(NativeRegion {
                start_ip: 0x1110,
                resume_ip: 0x1120,
                after: registers,
            }),
        ],
        end: End::Anchor {
            api: Api(ApiFn::BackwardsBranch as u8),
            id: 7,
            return_address: 0x1000,
            ip: 0x1120,
            rsp: 0x7000,
        },
    }
}
