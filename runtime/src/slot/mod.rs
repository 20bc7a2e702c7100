//! Slots at stable addresses.
//!
//! A slot holds one object's metadata word. It never moves and is the only pointer to the object, so its address must stay valid for as
//! long as anybody may look: the owner, the evacuator that walks object headers, the cleaner that reads slot numbers from far memory.
//!
//! The table is a list of **regions**, 64 MiB of address space each at a multiple of 64 MiB, never unmapped while the table lives. A
//! region begins with a header page that names its owner, so that a smart pointer needs only the slot's address to find
//! its far memory ([`owner_of`]). The rest is **blocks** of one page, 512 slots, each divided into units of one size: 1, 16, 64 or 512
//! slots. A block whose units are all free goes back to the kernel and the budget. Who still has a stale slot number reads zero there
//! or a word of another object, and neither says what it looks for: each check is against an exact address.
//!
//! Blocks are charged to the local budget; the caller of [`SlotTable::alloc`] makes room and tries again.

mod table;

pub use table::{NoSlot, SLOTS_PER_BLOCK, SlotTable, UnitClass, owner_of};
