//! What a mutator does while a round or the cleaner is at work.
//!
//! One thread runs everything. A round calls the lender now and then, and each such call is a moment at which another thread could have come
//! between: so the lender asks here what the script has a mutator do, and it is done there and then. The lender may also be called
//! by a mutator, which then holds the objects: nobody comes between that.
#![forbid(unsafe_code)]

use crate::objects::{Action, Objects};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

struct Meanwhile {
    objects: Rc<RefCell<Objects>>,
    /// How many calls of the lender to let pass first, and what to do.
    due: VecDeque<(u8, Action)>,
    done: u32,
}

thread_local! {
    static HERE: RefCell<Option<Meanwhile>> = const { RefCell::new(None) };
}

/// Forgets what has not been done when dropped.
pub(crate) struct Guard(());

/// From now on actions on `objects` can be scheduled on this thread.
pub(crate) fn over(objects: &Rc<RefCell<Objects>>) -> Guard {
    HERE.set(Some(Meanwhile { objects: Rc::clone(objects), due: VecDeque::new(), done: 0 }));
    Guard(())
}

impl Drop for Guard {
    fn drop(&mut self) {
        HERE.set(None);
    }
}

/// Schedules an action.
pub(crate) fn schedule(after: u8, action: Action) {
    HERE.with_borrow_mut(|here| here.as_mut().expect("actions are scheduled over objects").due.push_back((after, action)));
}

/// Drops what is scheduled.
pub(crate) fn cancel() {
    HERE.with_borrow_mut(|here| here.as_mut().map(|here| here.due.clear()));
}

/// How often somebody came between.
pub(crate) fn done() -> u32 {
    HERE.with_borrow(|here| here.as_ref().map_or(0, |here| here.done))
}

/// A moment at which somebody may come between.
pub(crate) fn now() {
    let due = HERE.with_borrow_mut(|here| {
        let here = here.as_mut()?;
        here.objects.try_borrow_mut().ok()?.assert_none_is_copied();
        let (after, _) = here.due.front_mut()?;
        if *after > 0 {
            *after -= 1;
            return None;
        }
        here.done += 1;
        Some((Rc::clone(&here.objects), here.due.pop_front()?.1))
    });
    if let Some((objects, action)) = due {
        objects.borrow_mut().act(&action, true);
    }
}
