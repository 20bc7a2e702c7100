//! To implement `Far` by hand takes `unsafe`, and can't be done for the types that are refused.

use farptr::Far;

struct Safe(u8);
impl Far for Safe {}

// A way around the reason that is given for it.
impl farptr::far::refused::SeesWritesTo<'_, std::cell::Cell<u8>> for farptr::far::refused::Evacuation {}

unsafe impl Far for String {}

fn main() {}
