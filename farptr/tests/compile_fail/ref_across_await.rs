//! A future that holds a reference across an await stays on its thread, since it holds the scope as well. A pin may go anywhere.

use farptr::RemBox;

fn must_be_send<T: Send>(_: T) {}

fn with_a_pin(value: &RemBox<u64>) {
    must_be_send(async {
        let pin = value.pin_async().await.unwrap();
        std::future::ready(()).await;
        println!("{pin:?}");
    });
}

fn with_a_reference(value: &RemBox<u64>) {
    must_be_send(async {
        let scope = farptr::scope();
        let reference = value.get(&scope);
        std::future::ready(()).await;
        println!("{reference}");
    });
}

fn main() {}
