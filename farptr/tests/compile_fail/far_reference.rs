use farptr::Far;

#[derive(Far)]
struct Line<'text> {
    number: u32,
    text: &'text str,
}

#[derive(Far)]
struct Keyword {
    name: &'static str,
    start: *const u8,
}

fn is_far<T: Far>(_: T) {}

fn main() {
    let local = 7;
    is_far(&local);
}
