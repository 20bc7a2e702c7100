//! Why well-known types are not [`Far`](super::Far), in the compiler's own messages.
//!
//! Each reason is a trait that nothing implements and nothing outside can name. A refused type "implements" `Far` on
//! condition that [`Evacuation`] can do for it what it can't, so the compiler reports that condition, with the reason's own
//! text, wherever the type turns up: in a derive, in a bound, inside an `Option`. Going by type and not by name, it sees
//! through aliases and does not mistake a user's own `String` for std's.
//!
//! Two details are for the compiler's sake. The condition is on `Evacuation` and not on the refused type, since for two
//! conditions on one type it reports the outer one, `Far`. And `for<'never>` keeps it from calling a condition without
//! type parameters false on the spot, so that it looks where the type is used.

use super::Far;
use crate::{RemHashMap, RemVec};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::ffi::{CString, OsString};
use std::path::PathBuf;
use std::ptr::NonNull;
use std::rc::{self, Rc};
use std::sync::{self, Arc, atomic};
use std::{cell, marker};

/// What would have to cope with the content. Only its name is used, in messages.
pub struct Evacuation;

#[diagnostic::on_unimplemented(
    message = "`{Content}` can't be kept in far memory: what is written through `&` would be lost",
    label = "changes through `&`",
    note = "only `&mut` marks an object dirty, and only a dirty object is written back",
    note = "use a plain field and `try_get_mut`, or keep the cell, lock or atomic in ordinary memory beside the `RemBox`"
)]
pub trait SeesWritesTo<'never, Content: ?Sized> {}

#[diagnostic::on_unimplemented(
    message = "`{Content}` can't be kept in far memory: it borrows",
    label = "borrowed data",
    note = "own it instead: `RemBox<T>`, `RemBox<[T]>` or `RemBox<str>`; for static tables, an index"
)]
pub trait OutlivedBy<'never, Content: ?Sized> {}

#[diagnostic::on_unimplemented(
    message = "`{Content}` can't be kept in far memory: what it points to would stay behind",
    label = "a raw pointer",
    note = "own the target by a `RemBox<T>`, or keep an index; if this pointer is an opaque number to you, store it as `usize`"
)]
pub trait TakesPointeeOf<'never, Content: ?Sized> {}

#[diagnostic::on_unimplemented(
    message = "`{Content}` can't be kept in far memory: its bytes are on the ordinary heap and would stay there",
    label = "owns ordinary heap memory",
    note = "use `RemBox<str>` for text, `RemBox<[u8]>` for bytes and paths"
)]
pub trait TakesBytesOf<'never, Content: ?Sized> {}

#[diagnostic::on_unimplemented(
    message = "`{Content}` can't be kept in far memory: its target is on the ordinary heap and would stay there",
    label = "owns ordinary heap memory",
    note = "use `RemBox<T>`, `RemBox<[T]>` or `RemBox<str>`, whose target leaves by itself; instead of a trait object, an enum"
)]
pub trait TakesTargetOf<'never, Content: ?Sized> {}

#[diagnostic::on_unimplemented(
    message = "`{Content}` can't be kept in far memory: its elements are on the ordinary heap and would stay there",
    label = "owns ordinary heap memory",
    note = "use `RemBox<[T]>`, or for a few of them `[T; N]`; a `RemVec<T>`, which grows, beside the far data, not in it"
)]
pub trait TakesElementsOf<'never, Content: ?Sized> {}

#[diagnostic::on_unimplemented(
    message = "`{Content}` can't be kept in far memory: its entries are on the ordinary heap and would stay there",
    label = "owns ordinary heap memory",
    note = "use `RemHashMap<K, V>` (`RemHashMap<K, ()>` for a set) beside the far data, not in it; or a sorted `RemVec<(K, V)>`"
)]
pub trait TakesEntriesOf<'never, Content: ?Sized> {}

#[diagnostic::on_unimplemented(
    message = "`{Content}` can't be kept in far memory: its index is ordinary memory and would stay there",
    label = "keeps an index in ordinary memory",
    note = "keys and values of a `RemHashMap` are far already: keep the map itself beside the far data, and in it refer to the map by an index"
)]
pub trait TakesIndexOf<'never, Content: ?Sized> {}

#[diagnostic::on_unimplemented(
    message = "`{Content}` can't be kept in far memory: its table of chunks is ordinary memory and would stay there",
    label = "keeps a table in ordinary memory",
    note = "elements of a `RemVec` are far already: keep the vector itself beside the far data; for a fixed number of elements, `RemBox<[T]>`"
)]
pub trait TakesTableOf<'never, Content: ?Sized> {}

#[diagnostic::on_unimplemented(
    message = "`{Content}` can't be kept in far memory: its target is shared, on the ordinary heap, and would stay there",
    label = "shares ordinary heap memory",
    note = "give the target one owner, a `RemBox<T>` or an element of a `RemVec<T>`, and refer to it by index or key"
)]
pub trait TakesSharedTargetOf<'never, Content: ?Sized> {}

#[diagnostic::on_unimplemented(
    message = "`{Content}` can't be kept in far memory: it must not move, and objects in far memory do",
    label = "must not move"
)]
pub trait MayMove<'never, Content: ?Sized> {}

/// `refuse!(Reason: [generics] Type, ...)`: `Type` is `Far` if it has the property that it lacks.
macro_rules! refuse {
    ($reason:ident: $([$($param:tt)*] $ty:ty),+ $(,)?) => {$(
        // SAFETY: never applies, because nothing implements `$reason`.
        #[doc(hidden)]
        unsafe impl<$($param)*> Far for $ty where for<'never> Evacuation: $reason<'never, $ty> {}
    )+};
}

refuse!(SeesWritesTo:
    [T: ?Sized + 'static] cell::UnsafeCell<T>, [T: ?Sized + 'static] cell::Cell<T>, [T: ?Sized + 'static] cell::RefCell<T>,
    [T: 'static] cell::OnceCell<T>, [T: 'static, F: 'static] cell::LazyCell<T, F>,
);
refuse!(SeesWritesTo:
    [T: ?Sized + 'static] sync::Mutex<T>, [T: ?Sized + 'static] sync::RwLock<T>,
    [T: 'static] sync::OnceLock<T>, [T: 'static, F: 'static] sync::LazyLock<T, F>,
    [] sync::Condvar, [] sync::Barrier, [] sync::Once,
);
refuse!(SeesWritesTo:
    [T: 'static] atomic::AtomicPtr<T>, [] atomic::AtomicBool,
    [] atomic::AtomicU8, [] atomic::AtomicU16, [] atomic::AtomicU32, [] atomic::AtomicU64, [] atomic::AtomicUsize,
    [] atomic::AtomicI8, [] atomic::AtomicI16, [] atomic::AtomicI32, [] atomic::AtomicI64, [] atomic::AtomicIsize,
);
refuse!(OutlivedBy: [T: ?Sized + 'static] &'static T, [T: ?Sized + 'static] &'static mut T);
refuse!(TakesPointeeOf:
    [T: ?Sized + 'static] *const T, [T: ?Sized + 'static] *mut T, [T: ?Sized + 'static] NonNull<T>,
);
refuse!(TakesBytesOf: [] String, [] OsString, [] CString, [] PathBuf, [B: ?Sized + ToOwned + 'static] Cow<'static, B>);
refuse!(TakesTargetOf: [T: ?Sized + 'static] Box<T>);
refuse!(TakesElementsOf:
    [T: 'static] Vec<T>, [T: 'static] VecDeque<T>, [T: 'static] BinaryHeap<T>, [T: 'static] LinkedList<T>,
);
refuse!(TakesEntriesOf:
    [K: 'static, V: 'static, S: 'static] HashMap<K, V, S>, [T: 'static, S: 'static] HashSet<T, S>,
    [K: 'static, V: 'static] BTreeMap<K, V>, [T: 'static] BTreeSet<T>,
);
refuse!(TakesSharedTargetOf:
    [T: ?Sized + 'static] Rc<T>, [T: ?Sized + 'static] rc::Weak<T>,
    [T: ?Sized + 'static] Arc<T>, [T: ?Sized + 'static] sync::Weak<T>,
);
refuse!(TakesTableOf: [T: Far] RemVec<T>);
refuse!(TakesIndexOf: [K: Far, V: Far, S: 'static] RemHashMap<K, V, S>);
refuse!(MayMove: [] marker::PhantomPinned);
