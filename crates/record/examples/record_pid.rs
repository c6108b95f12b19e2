//! Records what a running program does: `record_pid PID STEPS [FILE]`. The program must have a SIGTRAP handler. Calls within the
//! program's own file are inlined, others are residual.

use redmagic_record::codec;
use redmagic_record::guide::{CallAction, CallSite, Flow, Guide, ShimAction, ShimCallSite};
use redmagic_record::recording::{Anchor, ImageRange, Step};
use redmagic_record::stepping::{Ctx, Limits, record};
use redmagic_tracee::image::Image;
use redmagic_tracee::maps::Maps;
use redmagic_tracee::thread::{Options, WaitOutcome, seize_and_stop};

struct Everything {
    left: usize,
}

impl Guide for Everything {
    fn on_inst(&mut self, _: u64, _: &iced_x86::Instruction, _: i32) -> Flow {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 { Flow::End(0) } else { Flow::Continue }
    }

    fn on_call(&mut self, site: &CallSite) -> CallAction {
        if site.in_own_image {
            CallAction::Inline
        } else {
            CallAction::Residual
        }
    }

    fn on_shim_call(&mut self, _: &ShimCallSite) -> ShimAction {
        ShimAction::RunNative
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, pid, steps, file @ ..] = &arguments[..] else {
        eprintln!("usage: record_pid PID STEPS [FILE]");
        std::process::exit(2);
    };
    let pid: i32 = pid.parse().expect("a process id");
    let thread = match seize_and_stop(pid, Options::EXEC) {
        Ok(WaitOutcome::Stopped(thread)) => thread,
        Ok(WaitOutcome::Dead(death)) => panic!("{death}"),
        Err(error) => panic!("{error}"),
    };
    let image = Image::executable(pid, &Maps::read(pid).expect("maps")).expect("the executable");
    let ctx = Ctx {
        program: image.path.clone(),
        images: vec![ImageRange {
            start: image.range.start,
            end: image.range.end,
            path: image.path.clone(),
            own: true,
        }],
        anchor: Anchor::Exit {
            exit: 0,
            target: thread.regs().expect("registers").rip,
        },
        api: &|_| None,
        library: &|_| None,
        counting: &[],
    };
    let limits = Limits::default();
    let outcome = record(
        thread,
        &ctx,
        &mut Everything {
            left: steps.parse().expect("a number"),
        },
        &limits,
    );
    println!("{:?}", outcome.stats);
    match outcome.result {
        Ok(recording) => {
            let residual = recording
                .steps
                .iter()
                .filter(|s| matches!(s, Step::Residual(_)))
                .count();
            println!(
                "{} steps, {residual} of them residual calls, end {:x?}",
                recording.steps.len(),
                recording.end
            );
            for pair in recording.steps.windows(2) {
                assert_eq!(pair[0].next_ip(), pair[1].ip());
            }
            if let [file] = file {
                codec::save(&recording, file.as_ref()).expect("save");
                assert_eq!(codec::load(file.as_ref()).expect("load"), recording);
            }
        }
        Err(aborted) => {
            let place = image
                .function_at(aborted.ip)
                .map_or("?", |(symbol, _)| symbol.name.as_str());
            println!("{aborted} in {place}");
        }
    }
}
