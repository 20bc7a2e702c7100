//! Whether the file of a slab can be mapped without danger.
#![forbid(unsafe_code)]

use crate::error::TransportError;
use crate::slab::Sharing;
use crate::transport::SlabId;
use rustix::fs::SealFlags;
use std::fs::File;
use std::os::unix::fs::FileTypeExt;

/// Where in its file a slab lies, if the file is one that may be mapped. `trusted`: the server could end this process anyhow.
pub(super) fn offset_in(
    file: &File,
    slab: SlabId,
    slab_bytes: u32,
    sharing: Sharing,
    trusted: bool,
) -> Result<u64, TransportError> {
    let bad = |why: String| TransportError::Protocol(format!("it lent slab {} in a file that can't be mapped: {why}", slab.0));
    let offset = match sharing {
        Sharing::Each => 0,
        Sharing::Whole => u64::from(slab.0) * u64::from(slab_bytes),
    };
    let known = file.metadata().map_err(|error| bad(error.to_string()))?;
    if known.file_type().is_char_device() && trusted {
        // Nobody can make a device shorter, and mapping it tells whether it is long enough.
        return Ok(offset);
    }
    if !known.is_file() {
        return Err(bad("it is neither an ordinary file nor a device of a server that is trusted".into()));
    }
    let end = offset + u64::from(slab_bytes);
    if known.len() < end {
        return Err(bad(format!("it has {} bytes, and the slab ends at {end}", known.len())));
    }
    // Files that can't have seals say that they have none, or that there is no such question.
    let sealed = rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
    if !sealed && !trusted {
        return Err(bad(
            "it could become shorter, which would end this process, and the server runs as neither root nor this process's user; \
             start farmemd without --backing, or as one of these"
                .into(),
        ));
    }
    Ok(offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, fcntl_add_seals, memfd_create};

    const SLAB: u32 = 1 << 18;

    fn memfd(len: u64, seals: SealFlags) -> File {
        let file = File::from(memfd_create("test", MemfdFlags::ALLOW_SEALING).expect("memfd"));
        file.set_len(len).expect("length");
        fcntl_add_seals(&file, seals).expect("seals");
        file
    }

    fn offset(file: &File, sharing: Sharing, trusted: bool) -> Result<u64, String> {
        offset_in(file, SlabId(2), SLAB, sharing, trusted).map_err(|error| error.to_string())
    }

    #[test]
    fn a_sealed_file_of_the_right_size_is_mapped_whoever_passes_it() {
        let file = memfd(SLAB.into(), SealFlags::SHRINK);
        assert_eq!(offset(&file, Sharing::Each, false), Ok(0));
        let file = memfd(3 * u64::from(SLAB), SealFlags::SHRINK);
        assert_eq!(offset(&file, Sharing::Whole, false), Ok(2 * u64::from(SLAB)));
    }

    #[test]
    fn a_file_that_is_too_short_is_refused() {
        for (len, sharing) in
            [(u64::from(SLAB) - 1, Sharing::Each), (3 * u64::from(SLAB) - 1, Sharing::Whole), (0, Sharing::Each)]
        {
            let error = offset(&memfd(len, SealFlags::SHRINK), sharing, true).expect_err("too short");
            assert!(error.contains("bytes, and the slab ends at"), "{error}");
        }
    }

    #[test]
    fn a_file_that_can_become_shorter_is_for_those_who_trust_the_server() {
        let folder = tempfile::tempdir().expect("folder");
        let ordinary = tempfile::tempfile_in(&folder).expect("file");
        ordinary.set_len(SLAB.into()).expect("length");
        for file in [&memfd(SLAB.into(), SealFlags::GROW), &ordinary] {
            assert_eq!(offset(file, Sharing::Each, true), Ok(0));
            assert!(offset(file, Sharing::Each, false).expect_err("unsealed").contains("could become shorter"));
        }
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let (socket, _) = std::os::unix::net::UnixStream::pair().expect("pair");
        let socket = File::from(std::os::fd::OwnedFd::from(socket));
        assert!(offset(&socket, Sharing::Each, true).is_err());
        let device = File::open("/dev/null").expect("device");
        assert!(offset(&device, Sharing::Each, false).is_err());
        assert_eq!(offset(&device, Sharing::Whole, true), Ok(2 * u64::from(SLAB)), "mapping it says no");
    }
}
