use farptr::Far;

#[derive(Far)]
#[far(bound = "T: Copy")]
struct Unknown<T>(T);

#[derive(Far)]
#[far(crate = "farptr", crate = "farptr")]
struct Twice(u8);

fn main() {}
