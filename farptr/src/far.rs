//! Which types may live in far memory.
//!
//! An object leaves by having its bytes copied to another machine and comes back by having them copied into a new place.
//! Three kinds of content do not survive that, and [`Far`] refuses them at compile time:
//!
//! - **Interior mutability.** Only `&mut` marks an object dirty. What is written through `&` (a `Cell`, a `Mutex`, an
//!   atomic) would not be written back, and would be lost at the next swap-in.
//! - **Borrowed data.** Nobody can promise that what is borrowed outlives an object whose bytes are elsewhere.
//! - **Memory of its own on the ordinary heap.** A `String` in far memory is 24 bytes that left and a text that stayed. It
//!   would work, and would defeat the purpose without a word.
//!
//! The first two are matters of soundness, the third of honesty. Each refusal names the replacement: see `refused`.

mod impls;
mod refused;

/// A type whose values may be kept in far memory. Derive it: `#[derive(Far)]`.
///
/// Implemented for what is plain data in `std` (numbers, `char`, arrays, tuples, `Option`, `Result`, `Duration`, socket
/// addresses, function pointers, ...), for slices and `str`, and for [`RemBox`](crate::RemBox), so that far objects may own other far objects.
///
/// Not implemented, with a message that names the replacement:
///
/// | refused | why | instead |
/// |---|---|---|
/// | `Cell`, `RefCell`, `Mutex`, `RwLock`, `Atomic*`, `OnceCell`, ... | writes through `&` are lost | a plain field and `try_get_mut` |
/// | `&T`, `&mut T`, raw pointers | what they point to may go away or does not leave | `RemBox`, or an index |
/// | `String`, `Cow`, `PathBuf`, `OsString`, `CString` | own heap memory | `RemBox<str>`, `RemBox<[u8]>` |
/// | `Box` | owns heap memory | `RemBox` |
/// | `Vec`, `VecDeque`, `BinaryHeap`, `LinkedList` | own heap memory | `RemBox<[T]>`; `[T; N]` if small; `RemVec`, beside the far data |
/// | `HashMap`, `HashSet`, `BTreeMap`, `BTreeSet` | own heap memory | `RemHashMap`, beside the far data: it keeps an index in ordinary memory, so it is not `Far` itself |
/// | `RemVec` | keeps the table of its chunks in ordinary memory | the vector beside the far data; in it `RemBox<[T]>` |
/// | `Rc`, `Arc` | own heap memory, and share it | `RemBox` for one owner, a key or an index for many |
///
/// # Deriving
/// On structs and enums of any form. A type parameter that a field mentions gets the bound `T: Far`; one that appears only in
/// `PhantomData` or in a function pointer's signature gets `T: 'static`; an associated type in a field (`T::Item`) is bounded
/// itself. Unions are refused: nobody can tell which field is there. `#[far(crate = "path")]` on the type says where this
/// crate is, if it is re-exported.
///
/// ```
/// use farptr::Far;
///
/// #[derive(Far)]
/// struct Posting<P> {
///     document: u32,
///     position: P,
///     score: Option<f32>,
/// }
/// # fn is_far<T: Far>() {}
/// # is_far::<Posting<u16>>();
/// ```
///
/// What would not survive is an error at the field:
///
/// ```compile_fail,E0277
/// #[derive(farptr::Far)]
/// struct Counter {
///     hits: std::cell::Cell<u64>, // a write through `&` would be lost
/// }
/// ```
/// ```compile_fail,E0277
/// #[derive(farptr::Far)]
/// struct Document {
///     text: String, // owns ordinary heap memory; use RemBox<str>
/// }
/// ```
/// ```compile_fail
/// #[derive(farptr::Far)]
/// struct Line<'a> {
///     text: &'a [u8], // borrowed
/// }
/// ```
///
/// # Safety
/// An implementation by hand promises, for every value of the type:
/// 1. no byte of it changes while only `&` references to it exist, other than behind one of this crate's own pointers;
/// 2. nothing relies on its address, whether `Pin` was involved or not: it may be moved by copying its bytes whenever no
///    reference to it exists, and the memory it leaves is reused without running `Drop`;
/// 3. its bytes may be read by another thread of this process while no `&mut` to it exists, even if it is not `Sync`.
///
/// Padding and uninitialised bytes are allowed. `Drop` is allowed, and runs once, after the value has been brought back.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be kept in far memory",
    label = "not `Far`",
    note = "objects in far memory move as plain bytes, so they hold no references, no ordinary heap memory and nothing that changes through `&`",
    note = "add `#[derive(Far)]` to a type of your own, or the bound `T: Far` to a type parameter"
)]
pub unsafe trait Far: 'static {}
