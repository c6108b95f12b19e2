//! Plain structs as messages over a SOCK_SEQPACKET socket.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, recvmsg, sendmsg};
use redmagic_proto::message::{Hello, Mapped, Welcome};

/// A message: any bytes are a valid value, and it has no padding.
///
/// # Safety
/// Must be `#[repr(C)]`, made of integers, without padding.
pub unsafe trait Wire: Copy {}

// SAFETY: two u64s and two u32s in order.
unsafe impl Wire for Hello {}
// SAFETY: u64, u32, u32, then seven u64s.
unsafe impl Wire for Welcome {}
// SAFETY: u64, u32, u32.
unsafe impl Wire for Mapped {}

/// Sends one message, with descriptors.
///
/// # Errors
/// Those of sendmsg.
pub fn send<T: Wire>(socket: &OwnedFd, message: &T, files: &[&OwnedFd]) -> Result<(), Errno> {
    // SAFETY: `T: Wire` has no padding, so all its bytes are initialised.
    let bytes = unsafe { std::slice::from_raw_parts((&raw const *message).cast::<u8>(), size_of::<T>()) };
    let raw: Vec<_> = files.iter().map(|f| f.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
    sendmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// Receives one message; `None` for one of another size.
///
/// # Errors
/// Those of recvmsg; EPIPE at the end.
pub fn receive<T: Wire>(socket: &OwnedFd) -> Result<Option<T>, Errno> {
    let mut bytes = vec![0u8; size_of::<T>() + 1];
    // Descriptors that a peer sends are taken and closed.
    let mut space = cmsg_space!([i32; 4]);
    let received = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<UnixAddr>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        for control in message.cmsgs()? {
            if let nix::sys::socket::ControlMessageOwned::ScmRights(files) = control {
                for file in files {
                    let _ = nix::unistd::close(file);
                }
            }
        }
        message.bytes
    };
    if received == 0 {
        return Err(Errno::EPIPE);
    }
    if received != size_of::<T>() {
        return Ok(None);
    }
    // SAFETY: the buffer holds that many bytes, and any bytes are a valid `T: Wire`.
    Ok(Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() }))
}
