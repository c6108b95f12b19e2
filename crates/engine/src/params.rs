//! Every tunable: one line each, with its default, its range and what it is for.
//!
//! All can be set through the environment of `redmagic run` and `redmagicd attach`.

macro_rules! params {
    ($($(#[doc = $doc:literal])* $field:ident: $variable:literal = $default:literal in $low:literal ..= $high:literal;)*) => {
        /// The tunables of a session.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Params { $($(#[doc = $doc])* pub $field: u64),* }

        impl Default for Params {
            fn default() -> Params {
                Params { $($field: $default),* }
            }
        }

        /// A row of the table, for help texts and documentation.
        #[derive(Debug, Clone, Copy)]
        pub struct Row {
            /// Environment variable.
            pub variable: &'static str,
            /// Default value.
            pub default: u64,
            /// Smallest value.
            pub low: u64,
            /// Largest value.
            pub high: u64,
            /// What it is for.
            pub doc: &'static str,
        }

        /// The table.
        pub const TABLE: &[Row] = &[$(Row {
            variable: $variable, default: $default, low: $low, high: $high, doc: concat!($($doc),*),
        }),*];

        impl Params {
            /// Reads the values that `lookup` has; the rest keeps its default.
            ///
            /// # Errors
            /// The first value that is no number or out of range: for the user to change.
            pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Params, ParamError> {
                let mut params = Params::default();
                $(if let Some(text) = lookup($variable) {
                    params.$field = parse($variable, &text, $low, $high)?;
                })*
                Ok(params)
            }
        }
    };
}

params! {
    /// Turns of a loop before it is recorded; a function entry counts an eighth.
    hotloop: "REDMAGIC_HOTLOOP" = 500 in 1 ..= 100_000_000;
    /// Times an exit is taken before a side trace is recorded from it. A recording holds the program up for about as long as
    /// this many turns through the exit waste.
    hotexit: "REDMAGIC_HOTEXIT" = 8000 in 1 ..= 100_000_000;
    /// Longest recording, in instructions.
    maxrecord: "REDMAGIC_MAXRECORD" = 6000 in 16 ..= 1_000_000;
    /// Most side traces below one root.
    maxside: "REDMAGIC_MAXSIDE" = 100 in 0 ..= 100_000;
    /// Aborted recordings before an anchor is blacklisted or an exit is left alone.
    maxtries: "REDMAGIC_MAXTRIES" = 4 in 1 ..= 1000;
    /// Size of the code region in KiB; when it is full, nothing more is compiled.
    codesize: "REDMAGIC_CODESIZE" = 16_384 in 64 ..= 262_144;
    /// Time in ms after which a trace is dropped of which constant memory has ended and is not declared again: until then it
    /// waits for the same bytes to come back. 0: at the next look.
    suspendtime: "REDMAGIC_SUSPENDTIME" = 100 in 0 ..= 60_000;
    /// Deepest nesting of calls that are recorded rather than kept as calls.
    maxdepth: "REDMAGIC_MAXDEPTH" = 40 in 0 ..= 1000;
    /// Turns of a native loop inside a called function before the function is kept as a call.
    maxnative: "REDMAGIC_MAXNATIVE" = 6 in 1 ..= 10_000;
    /// Longest loop, in recorded instructions, of which the first turn is peeled off: compiling that takes several times as long. Of a
    /// longer turn it saves less as a rule.
    maxpeel: "REDMAGIC_MAXPEEL" = 1600 in 0 ..= 1_000_000;
    /// Times an inner loop without a trace is unrolled into a recording.
    maxunroll: "REDMAGIC_MAXUNROLL" = 4 in 0 ..= 10_000;
    /// Times a function is entered in one recording before that counts as recursion.
    maxrecursion: "REDMAGIC_MAXRECURSION" = 2 in 0 ..= 1000;
    /// Whether instructions with known results are left out of traces (1) or not (0).
    fold: "REDMAGIC_FOLD" = 1 in 0 ..= 1;
    /// Whether traces are optimised (1), or recorded instructions repeated (0). What cannot be optimised is repeated.
    optimise: "REDMAGIC_OPTIMISE" = 1 in 0 ..= 1;
    /// Whether every optimised trace is evaluated beside the lifted one first (1, for tests), and copied when they differ.
    verify: "REDMAGIC_VERIFY" = 0 in 0 ..= 1;
    /// Whether an optimised side trace takes over the values of its parent where they are (1), or begins with the machine
    /// state of the original code (0).
    graft: "REDMAGIC_GRAFT" = 1 in 0 ..= 1;
    /// From which side trace on, counted from the root, a side trace may end in the middle of its turn, in a trace that it shares with
    /// others. 0: never.
    joindepth: "REDMAGIC_JOINDEPTH" = 2 in 0 ..= 100;
    /// Fewest instructions of a turn behind an exit for that.
    jointail: "REDMAGIC_JOINTAIL" = 400 in 0 ..= 1_000_000;
    /// Instructions of a side trace before it ends where nobody else has.
    joinafter: "REDMAGIC_JOINAFTER" = 60 in 0 ..= 1_000_000;
    /// Turns of an optimised loop before it loads everything anew.
    turns: "REDMAGIC_TURNS" = 1024 in 1 ..= 1024;
    /// Most copies of the body of a short loop that the program stays in.
    unroll: "REDMAGIC_UNROLL" = 4 in 1 ..= 64;
    /// Processor time in ms after which a program started by `redmagic run` gets its session: a shorter one is left alone.
    /// 0: at once, at its first call of the shim.
    after: "REDMAGIC_AFTER" = 40 in 0 ..= 600_000;
    /// Processor time in ms from the first trace to the first measurement of whether the traces pay; the next ones come each
    /// after twice as long. Traces that do not pay rest meanwhile. 0: never.
    payoff: "REDMAGIC_PAYOFF" = 200 in 0 ..= 600_000;
    /// How fast a program must be with its traces for them not to rest, in percent of what it is without. More than 100: for
    /// the measurement anchors are counted, which costs some hundredths, and while traces rest they are not.
    breakeven: "REDMAGIC_BREAKEVEN" = 102 in 0 ..= 1_000_000;
    /// How loops are recorded: 0 by emulation, and by stepping what it cannot do; 1 by stepping; 2 by both, which
    /// are compared (for tests).
    recorder: "REDMAGIC_RECORDER" = 0 in 0 ..= 2;
    /// Whether a thread whose loop is recorded by emulation runs on as soon as the memory that recordings usually need has been
    /// copied (1), or waits to the end (0; so it does for comparisons and verification as well).
    letgo: "REDMAGIC_LETGO" = 1 in 0 ..= 1;
    /// Microseconds for which a thread that waits for the daemon stays awake, where there are several processors.
    awake: "REDMAGIC_AWAKE" = 200 in 0 ..= 10_000;
    /// Longest emulation in ms while the thread waits, which gives up after 10.
    emulatetime: "REDMAGIC_EMULATETIME" = 2 in 1 ..= 9;
    /// Longest emulation in ms of a thread that runs on. What is recorded late is of a late moment.
    alonetime: "REDMAGIC_ALONETIME" = 10 in 1 ..= 1_000;
    /// Part of the target's run time that may go into recording, in percent.
    recordshare: "REDMAGIC_RECORDSHARE" = 5 in 0 ..= 100;
    /// Recording time in ms that is free of that limit.
    recordfree: "REDMAGIC_RECORDFREE" = 2 in 0 ..= 1_000_000;
    /// Longest run of a call that is kept as a call, while recording, in ms.
    residualtime: "REDMAGIC_RESIDUALTIME" = 20 in 1 ..= 60_000;
    /// Longest recording in ms.
    recordtime: "REDMAGIC_RECORDTIME" = 500 in 1 ..= 60_000;
}

/// A tunable that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{variable}={text} is not a whole number from {low} to {high}; change it or unset it")]
pub struct ParamError {
    variable: &'static str,
    text: String,
    low: u64,
    high: u64,
}

fn parse(variable: &'static str, text: &str, low: u64, high: u64) -> Result<u64, ParamError> {
    match text.trim().parse() {
        Ok(value) if (low..=high).contains(&value) => Ok(value),
        _ => Err(ParamError {
            variable,
            text: text.to_owned(),
            low,
            high,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_lie_in_their_ranges_and_names_are_distinct() {
        for (i, row) in TABLE.iter().enumerate() {
            assert!((row.low..=row.high).contains(&row.default), "{}", row.variable);
            assert!(TABLE[..i].iter().all(|other| other.variable != row.variable));
        }
    }

    #[test]
    fn values_come_from_the_environment_and_are_checked() {
        let set = |v: &'static str| move |name: &str| (name == "REDMAGIC_HOTLOOP").then(|| v.to_owned());
        assert_eq!(Params::from_lookup(set("2")).unwrap().hotloop, 2);
        assert_eq!(Params::from_lookup(|_| None).unwrap(), Params::default());
        for bad in ["", "0", "x", "-1", "99999999999999999999"] {
            let message = Params::from_lookup(set(bad)).unwrap_err().to_string();
            assert!(message.starts_with("REDMAGIC_HOTLOOP="), "{message}");
        }
    }
}
