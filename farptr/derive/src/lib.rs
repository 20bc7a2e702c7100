//! `#[derive(Far)]`. Documented with the trait, in crate `farptr`; programs use it from there.
#![forbid(unsafe_code)]

mod bounds;
mod expand;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `farptr::Far`, after checking that each field is `Far`. See the trait for what it refuses, and why.
#[proc_macro_derive(Far, attributes(far))]
pub fn derive_far(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::far(&input).unwrap_or_else(|error| error.into_compile_error()).into()
}
