//! A future that holds a scope across an await stays on its thread.
//!
//! One that stays may do so: a scope counts for its whole thread, whatever task opened it, and so protects what the others refer to as well.

fn must_be_send<T: Send>(_: T) {}

fn main() {
    must_be_send(async {
        let scope = farptr::scope();
        std::future::ready(()).await;
        drop(scope);
    });
}
