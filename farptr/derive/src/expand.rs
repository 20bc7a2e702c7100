//! From the type's definition to the implementation, or to the reason why there is none.

use crate::bounds;
use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, Fields, GenericParam, Ident, LitStr, Path, Result, Token, parse_quote};

/// The implementation of `Far` for `input`.
///
/// Beside the implementation it emits a function, never called, that takes the value apart and asks of each field, at the
/// place in the source where its type is written, whether it is `Far`. Taking the value apart without `..` means that a
/// field added behind this macro's back, by an attribute macro that runs after it, does not escape. Underscores, rather than
/// `allow(dead_code)`, keep the check from counting as a use of the fields: one that nothing else reads is still reported.
pub(crate) fn far(input: &DeriveInput) -> Result<TokenStream> {
    let far = far_path(&input.attrs)?;
    refuse_lifetimes(input)?;

    let name = &input.ident;
    let mut generics = input.generics.clone();
    let predicates = bounds::predicates(input, &far);
    if !predicates.is_empty() {
        generics.make_where_clause().predicates.extend(predicates);
    }
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    let checks = checks(input)?;

    Ok(quote! {
        const _: () = {
            // SAFETY: each field is `Far`, as `_FieldsOfFar` checks, and a value is its fields and padding.
            #[automatically_derived]
            unsafe impl #impl_generics #far for #name #ty_generics #where_clause {}

            trait _FieldsOfFar {
                fn _each_is_far(&self);
            }
            #[automatically_derived]
            impl #impl_generics _FieldsOfFar for #name #ty_generics #where_clause {
                #[allow(clippy::all, clippy::pedantic, clippy::nursery, clippy::restriction)]
                fn _each_is_far(&self) {
                    fn _is_far<FieldType: ?::core::marker::Sized + #far>(_: *const FieldType) {}
                    #checks
                }
            }
        };
    })
}

/// `::farptr::Far`, or under the path that `#[far(crate = "path")]` gives.
fn far_path(attrs: &[Attribute]) -> Result<Path> {
    let mut krate: Option<Path> = None;
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("far")) {
        attr.parse_nested_meta(|meta| {
            if !meta.path.is_ident("crate") {
                return Err(meta.error("unknown option; `#[far(crate = \"path\")]` is the only one"));
            }
            if krate.is_some() {
                return Err(meta.error("`crate` is given twice"));
            }
            let value = meta.value()?;
            krate = Some(if value.peek(syn::LitStr) {
                value.parse::<LitStr>()?.parse_with(Path::parse_mod_style)?
            } else {
                value.call(Path::parse_mod_style)?
            });
            Ok(())
        })?;
    }
    let mut path = krate.unwrap_or_else(|| parse_quote!(::farptr));
    path.segments.push(Ident::new("Far", Span::call_site()).into());
    Ok(path)
}

fn refuse_lifetimes(input: &DeriveInput) -> Result<()> {
    for param in &input.generics.params {
        if let GenericParam::Lifetime(lifetime) = param {
            return Err(Error::new(
                lifetime.span(),
                format!(
                    "`{}` borrows for `{}`, and borrowed data can't be kept in far memory; own it instead: `RemBox<T>`, `RemBox<[T]>` or `RemBox<str>`",
                    input.ident, lifetime.lifetime
                ),
            ));
        }
    }
    Ok(())
}

/// Statements that take `self` apart and check each field.
fn checks(input: &DeriveInput) -> Result<TokenStream> {
    match &input.data {
        Data::Struct(data) if is_packed(&input.attrs)? => Ok(packed(&data.fields)),
        Data::Struct(data) => {
            let arm = arm(quote!(Self), &data.fields);
            Ok(quote!(match *self { #arm }))
        }
        Data::Enum(data) => {
            let arms = data.variants.iter().map(|variant| {
                let name = &variant.ident;
                arm(quote!(Self::#name), &variant.fields)
            });
            Ok(quote!(match *self { #(#arms)* }))
        }
        Data::Union(data) => Err(Error::new(
            data.union_token.span,
            format!(
                "a union can't be kept in far memory: nobody can tell which field is there, and so whether it may move; make `{}` an enum",
                input.ident
            ),
        )),
    }
}

/// One match arm: the pattern that names every field, and a check of each.
fn arm(path: TokenStream, fields: &Fields) -> TokenStream {
    let bindings = (0..fields.len()).map(|i| format_ident!("field{i}")).collect::<Vec<_>>();
    let members = fields.members();
    let checks = fields.iter().zip(&bindings).map(|(field, binding)| {
        let ty = &field.ty;
        quote_spanned!(ty.span()=> _is_far::<#ty>(#binding);)
    });
    quote!(#path { #(#members: ref #bindings),* } => { #(#checks)* })
}

/// Fields of a packed struct can't be borrowed, so they are named in the pattern, and a raw pointer to each says what it is.
fn packed(fields: &Fields) -> TokenStream {
    let members = fields.members();
    let checks = fields.iter().zip(fields.members()).map(|(field, member)| {
        let ty = &field.ty;
        quote_spanned!(ty.span()=> _is_far::<#ty>(&raw const self.#member);)
    });
    quote! {
        let Self { #(#members: _),* } = self;
        #(#checks)*
    }
}

fn is_packed(attrs: &[Attribute]) -> Result<bool> {
    let mut packed = false;
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("repr")) {
        attr.parse_nested_meta(|meta| {
            packed |= meta.path.is_ident("packed");
            if meta.input.peek(syn::token::Paren) {
                let content;
                syn::parenthesized!(content in meta.input);
                content.parse::<proc_macro2::TokenStream>()?;
            } else if meta.input.peek(Token![=]) {
                meta.value()?.parse::<proc_macro2::TokenTree>()?;
            }
            Ok(())
        })?;
    }
    Ok(packed)
}
