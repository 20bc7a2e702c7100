//! One seed under watch: a panic in any thread fails it, and so does not coming to an end.

use crate::scenario::{Scenario, Tally};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, mpsc};
use std::time::Duration;

/// How long no thread of a seed may begin a step. One takes microseconds to milliseconds; where far memory is full, or the machine has much else to do, seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Seeds watch for panics of the whole process, so there is one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What the threads of a seed are doing: for the report of a hang.
#[derive(Debug, Default)]
pub(crate) struct Steps([AtomicU64; 4]);

impl Steps {
    /// Thread `thread` begins step `step`, which does `what`.
    pub(crate) fn begin(&self, thread: usize, step: usize, what: u8) {
        self.0[thread].store((step as u64) << 8 | u64::from(what), Ordering::Relaxed);
    }

    fn report(&self) -> String {
        let of = |steps: &AtomicU64| steps.load(Ordering::Relaxed);
        let lines = self.0.iter().enumerate().filter(|(_, steps)| of(steps) > 0);
        lines
            .map(|(thread, steps)| format!("thread {thread} in step {} ({})", of(steps) >> 8, of(steps) as u8))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current().name().unwrap_or("without a name").to_owned();
            PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(format!("thread {thread}: {panic}"));
            usual(panic);
        }));
    });
}

/// Runs one scenario to its end.
///
/// # Errors
/// What went wrong.
pub(crate) fn run_watched(scenario: Scenario, tally: &mut Tally) -> Result<(), String> {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    note_panics();
    PANICS.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let steps = Arc::new(Steps::default());
    let (tell, told) = mpsc::channel();
    let inner = Arc::clone(&steps);
    let worker = std::thread::Builder::new()
        .name(format!("seed-{}", scenario.seed))
        .spawn(move || {
            let _ = tell.send(scenario.run(&inner));
        })
        .expect("a thread");
    let mut before = steps.report();
    let outcome = loop {
        match told.recv_timeout(PATIENCE) {
            Err(mpsc::RecvTimeoutError::Timeout) if steps.report() != before => before = steps.report(),
            outcome => break outcome,
        }
    };
    let panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner).join("; ");
    match outcome {
        Ok(of_seed) => {
            worker.join().map_err(|_| panics.clone())?;
            if panics.is_empty() {
                tally.add(&of_seed);
                Ok(())
            } else {
                Err(panics)
            }
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(panics),
        // The thread is left behind: there is no way to end it, and the run ends with this report.
        Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("it hangs after {PATIENCE:?}: {}; {panics}", steps.report())),
    }
}
