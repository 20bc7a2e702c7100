//! Sizes as people write them.
#![forbid(unsafe_code)]

use bytesize::ByteSize;

/// Parses a size such as `4GiB`, `64 MiB`, `1.5GB` or `1048576`. The error says what a size looks like.
///
/// ```
/// # use farptr_runtime::bytes::parse_size;
/// assert_eq!(parse_size("64MiB"), Ok(64 << 20));
/// assert_eq!(parse_size("1.5GiB"), Ok(3 << 29));
/// assert_eq!(parse_size("4096"), Ok(4096));
/// assert!(parse_size("lots").is_err());
/// assert!(parse_size("99999999 TiB").is_err());
/// ```
pub fn parse_size(text: &str) -> Result<u64, String> {
    let explain = || format!("{text:?} is not a size; write for example 64MiB, 1.5GiB or 1048576");
    let size = text.trim().parse::<ByteSize>().map_err(|_| explain())?.0;
    // The parser saturates; a saturated size is no size.
    if size == u64::MAX { Err(explain()) } else { Ok(size) }
}

/// Writes a size as people read it.
///
/// ```
/// # use farptr_runtime::bytes::format_size;
/// assert_eq!(format_size(64 << 20), "64.0 MiB");
/// ```
pub fn format_size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}
