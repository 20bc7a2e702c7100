//! Attributes that change a type behind a derive's back, for the tests of farptr.
#![forbid(unsafe_code)]

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// Every `u32` of the item becomes a `Cell<u32>`. A derive above it has seen the `u32`.
#[proc_macro_attribute]
pub fn u32_in_cells(_: TokenStream, item: TokenStream) -> TokenStream {
    in_cells(item)
}

fn in_cells(tokens: TokenStream) -> TokenStream {
    let cell: TokenStream = "::std::cell::Cell<u32>".parse().expect("a type");
    let changed = |token| match token {
        TokenTree::Ident(name) if name.to_string() == "u32" => Group::new(Delimiter::None, cell.clone()).into(),
        TokenTree::Group(group) => Group::new(group.delimiter(), in_cells(group.stream())).into(),
        other => other,
    };
    tokens.into_iter().map(changed).collect()
}
