use farptr::Far;
use std::borrow::Cow;
use std::path::PathBuf;

type Name = String;

#[derive(Far)]
struct Document {
    path: PathBuf,
    author: Option<Name>,
    title: Cow<'static, str>,
}

fn is_far<T: Far>(_: T) {}

fn main() {
    is_far(String::new());
}
