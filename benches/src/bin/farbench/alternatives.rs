//! What would be used instead, as far as this machine has it: found out once, at first need, and then kept ready for all experiments.

use crate::Outcome;
use crate::program::Program;
use crate::remote::Remote;
use crate::swap::{Swap, Way};
use crate::undo::Undo;
use std::time::Duration;

/// The kernel's swapping, in the way that is fastest here.
pub(crate) struct Swapping {
    pub(crate) way: Way,
    /// What each way made of the race, in faults a second, or why it could not take part.
    pub(crate) race: Vec<(Way, Result<f64, String>)>,
    _device: Swap,
}

/// Bytes that the race is over, of which a tenth may stay: little enough that a way which counts what is swapped against the program's limit drops out.
const RACE: usize = 64 << 20;

/// How long each way is tried.
const TRY: Duration = Duration::from_millis(800);

impl Swapping {
    /// Tries all ways and keeps the fastest, with a device of `bytes`.
    pub(crate) fn fastest(bytes: u64, undo: &Undo) -> Result<Self, String> {
        let attempt = |way: Way| -> Outcome<f64> {
            let _device = Swap::set_up(way, 4 * RACE as u64, undo)?;
            let mut pages = Remote::start(&Program::Pages { bytes: RACE }, RACE as u64 / 10, undo)?;
            pages.sample(TRY / 4)?;
            pages.sample(TRY)
        };
        let race: Vec<_> = Way::ALL.map(|way| (way, attempt(way).map_err(|error| error.to_string()))).into();
        let ran = race.iter().filter_map(|(way, rate)| Some((*way, *rate.as_ref().ok()?)));
        let Some((way, _)) = ran.max_by(|(_, a), (_, b)| a.total_cmp(b)) else {
            let whys: Vec<_> = race.iter().filter_map(|(way, rate)| Some(format!("{way}: {}", rate.as_ref().err()?))).collect();
            return Err(whys.join("; "));
        };
        let device = Swap::set_up(way, bytes, undo).map_err(|error| error.to_string())?;
        Ok(Swapping { way, race, _device: device })
    }
}
