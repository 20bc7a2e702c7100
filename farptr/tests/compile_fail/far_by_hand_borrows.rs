//! Not even by hand can a type be `Far` that borrows.

use farptr::Far;

struct Borrows<'a>(&'a u8);
unsafe impl<'a> Far for Borrows<'a> {}

fn main() {}
