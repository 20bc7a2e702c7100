use farptr::Far;

#[derive(Far)]
struct Pair<T> {
    left: T,
    right: T,
}

struct NotFar(u8);

fn is_far<T: Far>() {}

fn without_bound<T: 'static>() {
    is_far::<Pair<T>>();
}

fn main() {
    is_far::<Pair<u8>>();
    is_far::<Pair<NotFar>>();
    is_far::<Pair<String>>();
}
