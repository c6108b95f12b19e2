//! A [`Recording`] as bytes. The only module that knows bincode.
//!
//! ```text
//! offset 0   "RMREC"          magic
//!        5   u8               format version (1)
//!        6   u16              zero
//!        8   u64              length of the body, in bytes
//!       16   u64              FNV-1a of the body
//!       24   body             bincode 2 "standard" configuration, through serde
//! ```
//! All little-endian. The checksum finds accidents; it is not a defence. Crafted input is an error too, never a panic, and never makes
//! the reader allocate more than a small multiple of the input's length.

use std::path::Path;

use crate::recording::Recording;

/// First bytes of a file.
pub const MAGIC: &[u8; 5] = b"RMREC";
/// The version written, and the only one read.
pub const VERSION: u8 = 4;
/// Bytes of the header.
pub const HEADER: usize = 24;
/// Longest body read or written, in bytes.
pub const MAX_BODY: usize = 256 << 20;

/// What is wrong with the bytes of a recording.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Not a recording at all.
    #[error("not a recording: it begins with {0:02x?} and not with \"RMREC\"")]
    Magic(Vec<u8>),
    /// A version that this program does not read.
    #[error("recording of format version {found}; this program reads version {VERSION}: use the redmagic that made it")]
    Version {
        /// Version in the file.
        found: u8,
    },
    /// The input ends early.
    #[error("truncated: {have} bytes, {need} needed for the {part}")]
    Truncated {
        /// What is cut.
        part: &'static str,
        /// Bytes there are.
        have: usize,
        /// Bytes there should be.
        need: usize,
    },
    /// There is more than there should be.
    #[error("{extra} bytes follow the end of the recording at byte {end}")]
    Trailing {
        /// Where it ends.
        end: usize,
        /// How many follow.
        extra: usize,
    },
    /// The header is malformed.
    #[error("bad header: {0}")]
    Header(String),
    /// The body was changed.
    #[error("corrupt: the checksum of the body is {found:#018x}, and should be {expected:#018x}")]
    Checksum {
        /// In the header.
        expected: u64,
        /// Of the body.
        found: u64,
    },
    /// The body has the right checksum but no meaning.
    #[error("bad body: {0}")]
    Body(String),
    /// The file could not be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
}

fn fnv1a(bytes: &[u8]) -> u64 {
    // Fowler-Noll-Vo 1a, 64 bits: offset basis and prime of the reference (isthe.com/chongo/tech/comp/fnv).
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_BODY>()
}

/// The bytes of a recording.
///
/// # Errors
/// [`CodecError::Body`] when it is larger than [`MAX_BODY`].
pub fn encode(recording: &Recording) -> Result<Vec<u8>, CodecError> {
    let body = bincode::serde::encode_to_vec(recording, config()).map_err(|e| CodecError::Body(e.to_string()))?;
    if body.len() > MAX_BODY {
        return Err(CodecError::Body(format!(
            "{} bytes, more than the {MAX_BODY} that can be read back",
            body.len()
        )));
    }
    Ok(seal(&body))
}

/// The bytes with a header that says they are the body of a recording. Tests put damaged bodies past the checksum with it.
pub fn seal(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[VERSION, 0, 0]);
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&fnv1a(body).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// The recording that `bytes` hold.
///
/// # Errors
/// Every kind but [`CodecError::File`].
pub fn decode(bytes: &[u8]) -> Result<Recording, CodecError> {
    let head = &bytes[..bytes.len().min(MAGIC.len())];
    if !MAGIC.starts_with(head) {
        return Err(CodecError::Magic(head.to_vec()));
    }
    let Some((header, body)) = bytes.split_at_checked(HEADER) else {
        return Err(CodecError::Truncated {
            part: "header",
            have: bytes.len(),
            need: HEADER,
        });
    };
    if header[5] != VERSION {
        return Err(CodecError::Version { found: header[5] });
    }
    if header[6..8] != [0, 0] {
        return Err(CodecError::Header(format!(
            "bytes 6 and 7 are {:02x?} and not zero",
            &header[6..8]
        )));
    }
    let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes of a 24-byte header"));
    let (len, expected) = (word(8), word(16));
    let len = usize::try_from(len)
        .ok()
        .filter(|&len| len <= MAX_BODY)
        .ok_or_else(|| CodecError::Header(format!("a body of {len} bytes, the limit is {MAX_BODY}")))?;
    if body.len() < len {
        return Err(CodecError::Truncated {
            part: "body",
            have: body.len(),
            need: len,
        });
    }
    if body.len() > len {
        return Err(CodecError::Trailing {
            end: HEADER + len,
            extra: body.len() - len,
        });
    }
    let found = fnv1a(body);
    if found != expected {
        return Err(CodecError::Checksum { expected, found });
    }
    decode_body(body)
}

fn decode_body(body: &[u8]) -> Result<Recording, CodecError> {
    let (recording, used): (Recording, usize) =
        bincode::serde::borrow_decode_from_slice(body, config()).map_err(|e| CodecError::Body(e.to_string()))?;
    if used != body.len() {
        return Err(CodecError::Trailing {
            end: HEADER + used,
            extra: body.len() - used,
        });
    }
    Ok(recording)
}

/// Reads a recording from a file.
///
/// # Errors
/// Every kind.
pub fn load(path: &Path) -> Result<Recording, CodecError> {
    use std::io::Read;
    let file = |error| CodecError::File {
        path: path.display().to_string(),
        error,
    };
    let mut bytes = Vec::new();
    let limit = (HEADER + MAX_BODY + 1) as u64;
    std::fs::File::open(path)
        .and_then(|f| f.take(limit).read_to_end(&mut bytes))
        .map_err(file)?;
    decode(&bytes)
}

/// Writes a recording to a file.
///
/// # Errors
/// [`CodecError::File`], [`CodecError::Body`].
pub fn save(recording: &Recording, path: &Path) -> Result<(), CodecError> {
    std::fs::write(path, encode(recording)?).map_err(|error| CodecError::File {
        path: path.display().to_string(),
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::*;
    use proptest::prelude::*;
    use smallvec::smallvec;

    pub fn sample() -> Recording {
        let registers = RegisterFile {
            gpr: std::array::from_fn(|i| i as u64 * 0x0101_0101_0101),
            rip: 0x40_1000,
            rflags: 0x246,
            fs_base: 0x7f00_0000,
            gs_base: 0,
            xsave: (0..=255).collect(),
        };
        let inst = Inst {
            ip: 0x40_1000,
            bytes: InstBytes::new(&[0x48, 0x8b, 0x07]).unwrap(),
            next_ip: 0x40_1003,
            mem: smallvec![
                MemAccess {
                    addr: 8,
                    size: 8,
                    kind: AccessKind::Read,
                    value: Bytes::from(&[1u8; 8][..])
                },
                MemAccess {
                    addr: 64,
                    size: 32,
                    kind: AccessKind::ReadWrite,
                    value: Bytes::from(&[2u8; 32][..])
                },
            ],
        };
        let shim = |action| ShimCall {
            call: inst.clone(),
            api: Api(3),
            args: [1, 2],
            return_address: 0x40_1008,
            rsp: 0x7ffe_0000,
            result: 9,
            action,
        };
        Recording {
            meta: Meta {
                pid: 7,
                tid: 8,
                program: "/bin/lua".into(),
                unix_ms: 1,
                duration_ns: 2,
                signals: 3,
                constant: Vec::new(),
            },
            images: vec![ImageRange {
                start: 1,
                end: 2,
                path: "/bin/lua".into(),
                own: true,
            }],
            anchor: Anchor::Root {
                kind: AnchorKind(1),
                id: 2,
                return_address: 0x40_1000,
            },
            start: registers.clone(),
            steps: vec![
                Step::Inst(inst.clone()),
                Step::from(Residual {
                    call: inst.clone(),
                    target: 5,
                    return_address: 6,
                    after: registers.clone(),
                    library: Some(LibraryCall {
                        function: LibraryFn::Memset,
                        args: [1, 0, 16],
                    }),
                }),
                Step::from(shim(ShimExecution::Skipped)),
                Step::from(shim(ShimExecution::Executed(Box::new(registers.clone())))),
                Step::from(NativeRegion {
                    start_ip: 1,
                    resume_ip: 2,
                    after: registers,
                }),
            ],
            end: End::Anchor {
                api: Api(1),
                id: 2,
                return_address: 3,
                ip: 4,
                rsp: 5,
            },
        }
    }

    #[test]
    fn round_trip() {
        let recording = sample();
        assert_eq!(decode(&encode(&recording).unwrap()).unwrap(), recording);
    }

    #[test]
    fn truncated_at_every_length() {
        let bytes = encode(&sample()).unwrap();
        for len in 0..bytes.len() {
            let error = decode(&bytes[..len]).unwrap_err();
            assert!(matches!(error, CodecError::Truncated { .. }), "{len}: {error}");
        }
        // The body alone, without the protection of length and checksum.
        for len in 0..bytes.len() - HEADER {
            assert!(decode_body(&bytes[HEADER..HEADER + len]).is_err(), "{len}");
        }
    }

    #[test]
    fn each_kind_of_damage_is_named() {
        let good = encode(&sample()).unwrap();
        let damaged = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            decode(&bytes).unwrap_err()
        };
        assert!(matches!(damaged(0, b'x'), CodecError::Magic(_)));
        assert!(matches!(damaged(5, 9), CodecError::Version { found: 9 }));
        assert!(matches!(damaged(6, 1), CodecError::Header(_)));
        assert!(matches!(damaged(15, 0xff), CodecError::Header(_)));
        assert!(matches!(damaged(16, good[16] ^ 1), CodecError::Checksum { .. }));
        let last = good.len() - 1;
        assert!(matches!(damaged(last, good[last] ^ 1), CodecError::Checksum { .. }));
        let mut longer = good.clone();
        longer.push(0);
        assert!(matches!(
            decode(&longer).unwrap_err(),
            CodecError::Trailing { extra: 1, .. }
        ));
    }

    #[test]
    fn claimed_lengths_allocate_nothing() {
        // A body whose first string claims 2^60 bytes.
        let mut body = vec![0, 0, 253];
        body.extend_from_slice(&(1u64 << 60).to_le_bytes());
        assert!(decode_body(&body).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Past the checksum, so that the decoder itself sees the damage.
        #[test]
        fn corrupt_bodies_are_errors_or_other_recordings(
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
        ) {
            let mut body = encode(&sample()).unwrap().split_off(HEADER);
            for (index, value) in edits {
                let at = index.index(body.len());
                body[at] = value;
            }
            if let Ok(recording) = decode_body(&body) {
                // What decodes must be a valid value: it encodes, and comes back.
                prop_assert_eq!(decode(&encode(&recording).unwrap()).unwrap(), recording);
            }
        }

        #[test]
        fn noise_is_an_error(noise in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(decode(&noise).is_err());
            let _ = decode_body(&noise);
        }
    }
}
