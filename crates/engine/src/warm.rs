//! What is made once, made early.
//!
//! The tables of the decoder, the lifter and the encoder are made when they are first wanted: that is some 10 ms, which the
//! first trace of a program would wait for. A daemon has time for it while the program starts.

use redmagic_proto::ApiFn;
use redmagic_record::recording::{Anchor, AnchorKind, Api, End, Inst, InstBytes, Meta, Recording, RegisterFile, Step};

use crate::{Draft, Params};

/// Where the code of the loop below is taken to be.
const TEXT: u64 = 0x40_0000;

/// `inc rax; xorps xmm0, xmm0; jne`, back to the call of an anchor.
fn recording() -> Recording {
    let step = |at: u64, bytes: &[u8], next: u64| {
        let bytes = InstBytes::new(bytes)?;
        Some(Step::Inst(Inst {
            ip: TEXT + at,
            bytes,
            next_ip: TEXT + next,
            mem: Default::default(),
        }))
    };
    let steps = [
        step(5, &[0x48, 0xff, 0xc0], 8),
        step(8, &[0x0f, 0x57, 0xc0], 11),
        step(11, &[0x75, 0xf3], 0),
    ];
    Recording {
        meta: Meta::default(),
        images: Vec::new(),
        anchor: Anchor::Root {
            kind: AnchorKind(ApiFn::BackwardsBranch as u8),
            id: 0,
            return_address: TEXT + 5,
        },
        start: RegisterFile::default(),
        steps: steps.into_iter().flatten().collect(),
        end: End::Anchor {
            api: Api(ApiFn::BackwardsBranch as u8),
            id: 0,
            return_address: TEXT + 5,
            ip: TEXT,
            rsp: 0,
        },
    }
}

/// Compiles a loop of three instructions, for nobody. Gives whether it could be.
pub fn up() -> bool {
    redmagic_emit::lower::make_tables();
    let recording = recording();
    let (job, draft) = Draft::offline(&recording, Params::default());
    draft.compile(&job, &recording).bytes().is_some()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_whole_pipeline_is_used() {
        let recording = super::recording();
        let (job, draft) = crate::Draft::offline(&recording, crate::Params::default());
        let compilation = draft.compile(&job, &recording);
        assert_eq!(recording.steps.len(), 3);
        assert_eq!(compilation.not_optimised(), None);
        assert!(super::up());
    }
}
