//! What must not stay behind, whatever ends the run: servers, swap devices, control groups.
//!
//! Who sets something up hands over how to take it away and gets a guard. It is taken away when the guard goes, which a panic sees to as well; or, if
//! a signal comes, by the thread that waits for those, latest first, before the process ends.
//!
//! What is set up, and how to take it away, must be known together: who sets something up does so [undisturbed](Undo::undisturbed), and a signal waits for that.
//! From then on nobody sets up or takes away anything but the thread of the signals. (Without it the first interruption during a race of swap devices left one
//! behind: its program ended, and the next way to swap was set up while the process was about to end.)

use crate::Outcome;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

type Action = Box<dyn FnOnce() + Send>;

/// How to take away all that was set up.
#[derive(Clone, Default)]
pub(crate) struct Undo {
    actions: Arc<Mutex<Actions>>,
    /// Held by whoever sets something up or takes it away, and by the end of the process.
    turn: Arc<Mutex<()>>,
}

#[derive(Default)]
struct Actions {
    next: u64,
    pending: Vec<(u64, Action)>,
}

/// Something that was set up. Dropping it takes that away.
#[must_use]
pub(crate) struct SetUp {
    undo: Undo,
    number: u64,
}

/// A folder of this run's own, which goes with all that is in it.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    _remove: SetUp,
}

impl Undo {
    /// Makes a folder for what must not stay. A `TempDir` would: a signal ends the process without dropping anything.
    pub(crate) fn folder(&self) -> Outcome<Folder> {
        self.folder_in(&std::env::temp_dir())
    }

    /// The same inside another folder.
    pub(crate) fn folder_in(&self, parent: &Path) -> Outcome<Folder> {
        self.undisturbed(|| {
            let path = tempfile::tempdir_in(parent)?.keep();
            let gone = path.clone();
            let remove = self.with(move || {
                if let Err(error) = std::fs::remove_dir_all(&gone) {
                    eprintln!("farbench: left behind: {}: {error}", gone.display());
                }
            });
            Ok(Folder { path, _remove: remove })
        })
    }

    /// One that is carried out when a signal ends the process.
    pub(crate) fn at_signals() -> Outcome<Self> {
        let undo = Undo::default();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let all = undo.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            if let Some(signal) = signals.forever().next() {
                let _until_the_end = all.turn.lock().unwrap_or_else(PoisonError::into_inner);
                all.run_all();
                eprintln!("farbench: ended by a signal; servers, control groups and swap devices are gone");
                std::process::exit(128 + signal);
            }
        })?;
        Ok(undo)
    }

    /// Sets something up and hands over how to take it away, without a signal between the two. Guards are not to be dropped inside.
    pub(crate) fn undisturbed<T>(&self, set_up: impl FnOnce() -> T) -> T {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        set_up()
    }

    /// Hands over how to take away what was just set up, or is about to be.
    pub(crate) fn with(&self, action: impl FnOnce() + Send + 'static) -> SetUp {
        let mut actions = self.actions.lock().unwrap_or_else(PoisonError::into_inner);
        actions.next += 1;
        let number = actions.next;
        actions.pending.push((number, Box::new(action)));
        SetUp { undo: self.clone(), number }
    }

    fn take(&self, number: u64) -> Option<Action> {
        let mut actions = self.actions.lock().unwrap_or_else(PoisonError::into_inner);
        let at = actions.pending.iter().position(|(each, _)| *each == number)?;
        Some(actions.pending.remove(at).1)
    }

    fn run_all(&self) {
        loop {
            let last = self.actions.lock().unwrap_or_else(PoisonError::into_inner).pending.pop();
            match last {
                Some((_, action)) => action(),
                None => return,
            }
        }
    }
}

impl Drop for SetUp {
    fn drop(&mut self) {
        let undo = &self.undo;
        undo.undisturbed(|| undo.take(self.number).into_iter().for_each(|action| action()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noting(undo: &Undo, notes: &Arc<Mutex<Vec<u32>>>, number: u32) -> SetUp {
        let notes = Arc::clone(notes);
        undo.with(move || notes.lock().expect("notes").push(number))
    }

    #[test]
    fn each_thing_is_taken_away_once_and_the_latest_first() {
        let (undo, notes) = (Undo::default(), Arc::default());
        let [first, second, third] = [1, 2, 3].map(|number| noting(&undo, &notes, number));
        drop(second);
        undo.run_all();
        drop((first, third));
        assert_eq!(*notes.lock().expect("notes"), [2, 3, 1]);
    }

    #[test]
    fn the_end_waits_for_what_is_being_set_up_and_nothing_is_set_up_after_it() {
        let (undo, notes) = (Undo::default(), Arc::<Mutex<Vec<u32>>>::default());
        let (begun, has_begun) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let setup = scope.spawn(|| {
                undo.undisturbed(|| {
                    begun.send(()).expect("the end waits");
                    std::thread::yield_now();
                    noting(&undo, &notes, 1)
                })
            });
            has_begun.recv().expect("it begins");
            let end = undo.turn.lock().expect("no panic");
            undo.run_all();
            assert_eq!(*notes.lock().expect("notes"), [1], "what was being set up is taken away");
            assert!(undo.turn.try_lock().is_err(), "who would set up more, waits");
            drop(end);
            drop(setup.join().expect("a guard"));
        });
        assert_eq!(*notes.lock().expect("notes"), [1]);
    }

    #[test]
    fn a_folder_goes_with_what_is_in_it_also_at_the_end() {
        let undo = Undo::default();
        let folders = [undo.folder().expect("a folder"), undo.folder().expect("a folder")];
        let paths = folders.each_ref().map(|folder| folder.path.clone());
        paths.iter().for_each(|path| std::fs::write(path.join("file"), "contents").expect("a file"));
        let [dropped, kept] = folders;
        drop(dropped);
        undo.run_all();
        assert!(paths.iter().all(|path| !path.exists()));
        drop(kept);
    }

    #[test]
    fn a_panic_takes_away_what_was_set_up() {
        let (undo, notes) = (Undo::default(), Arc::default());
        let setup = noting(&undo, &notes, 1);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _setup = setup;
            panic!("a measurement failed");
        }));
        assert!(panicked.is_err());
        assert_eq!(*notes.lock().expect("notes"), [1]);
    }
}
