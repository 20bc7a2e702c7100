//! Asking a server what it offers.
#![forbid(unsafe_code)]

use super::{Limits, Socket, Until};
use crate::error::TransportError;
use crate::wire::offers::OFFERS_BYTES;
use crate::wire::{Asking, Offers};
use std::io::ErrorKind;
use std::time::Instant;

/// Asks on a socket that has just been connected, and serves for nothing else.
pub(in crate::transport) fn ask(mut socket: impl Socket, limits: Limits) -> Result<Offers, TransportError> {
    let (mut asking, mut came, mut files) = (Asking::default(), [0; OFFERS_BYTES], Vec::new());
    loop {
        match socket.send(asking.output()) {
            Ok(len) => asking.output_sent(len),
            // What the server said before it closed tells more than these do; receiving finds both.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(TransportError::Lost(error.to_string())),
        }
        match socket.receive(&mut came, &mut files) {
            Ok(0) => return Err(TransportError::Lost("the server closed it".into())),
            Ok(len) => {
                if let Some(answer) = asking.handle_input(&came[..len]) {
                    return answer;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(TransportError::Lost(error.to_string())),
        }
        // Nobody asked for any.
        files.clear();
        let now = Instant::now();
        if now >= limits.connect_by {
            return Err(TransportError::Timeout { what: "the question what it offers", after: limits.connect_timeout });
        }
        let until = if asking.output().is_empty() { Until::Readable } else { Until::ReadableOrWritable };
        socket.wait(until, limits.connect_by - now);
    }
}
