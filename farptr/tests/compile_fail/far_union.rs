use farptr::Far;

#[derive(Far)]
union Bits {
    float: f32,
    int: u32,
}

fn main() {}
