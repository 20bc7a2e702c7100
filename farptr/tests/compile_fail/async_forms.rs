//! A future holds the borrow that it was made with, and what it gives holds it on.

use farptr::{RemBox, RemVec};

async fn leaked_from_a_closure(value: &RemBox<u64>) {
    let mut kept = None;
    value.with_async(|value| kept = Some(value)).await.unwrap();
    println!("{kept:?}");
}

async fn returned_from_a_closure(vec: &RemVec<u64>) {
    let element: Option<&u64> = vec.with_async(0, |element| element).await.unwrap();
    println!("{element:?}");
}

async fn pin_outlives_the_box(value: RemBox<u64>) {
    let pin = value.pin_async().await.unwrap();
    drop(value);
    println!("{pin:?}");
}

async fn pinned_for_writing_twice(mut value: RemBox<u64>) {
    let mut first = value.pin_mut_async().await.unwrap();
    let second = value.pin_async().await.unwrap();
    *first = *second;
}

fn written_while_a_future_reads(mut value: RemBox<u64>) {
    let reading = value.with_async(|value| *value);
    value.with_mut(|value| *value += 1);
    drop(reading);
}

fn pushed_while_a_future_reads(mut vec: RemVec<u64>) {
    let reading = vec.with_async(0, |value| *value);
    vec.push(1);
    drop(reading);
}

fn future_outlives_the_box() -> impl Future<Output = farptr::Result<u64>> {
    let value = RemBox::new_in(1u64, &farptr::FarMemory::from_env().unwrap());
    value.with_async(|value| *value)
}

fn main() {}
