//! Which bounds the generics of a type need, so that its fields can be `Far`.
//!
//! As in serde: a type parameter that some field mentions must be `Far`, and so must an associated type that some field
//! holds. Bounds name parameters, never whole field types, since those would make recursive types bound themselves.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeSet;
use syn::visit::{self, Visit};
use syn::{Data, DeriveInput, Ident, Macro, Path, Type, TypeBareFn, TypePath, WherePredicate, parse_quote};

/// The predicates to add to the where clause of `input`.
pub(crate) fn predicates(input: &DeriveInput, far: &Path) -> Vec<WherePredicate> {
    let params: Vec<&Ident> = input.generics.type_params().map(|param| &param.ident).collect();
    let mut mentioned = Mentioned { params: &params, directly: BTreeSet::new(), projections: Vec::new() };
    for field in fields(&input.data) {
        mentioned.visit_type(&field.ty);
    }
    let Mentioned { directly, projections, .. } = mentioned;
    let of_params = params.iter().map(|param| -> WherePredicate {
        if directly.contains(*param) {
            parse_quote!(#param: #far)
        } else {
            // `Far` implies `'static`, so each parameter has to be; this one has to be no more.
            parse_quote!(#param: 'static)
        }
    });
    let of_projections = projections.iter().map(|ty| -> WherePredicate { parse_quote!(#ty: #far) });
    of_params.chain(of_projections).collect()
}

/// Every field of a struct or of every variant.
fn fields(data: &Data) -> Vec<&syn::Field> {
    match data {
        Data::Struct(data) => data.fields.iter().collect(),
        Data::Enum(data) => data.variants.iter().flat_map(|variant| &variant.fields).collect(),
        Data::Union(data) => data.fields.named.iter().collect(),
    }
}

struct Mentioned<'a> {
    params: &'a [&'a Ident],
    directly: BTreeSet<Ident>,
    /// `T::Item`, `<T as Trait>::Item`.
    projections: Vec<Type>,
}

impl Mentioned<'_> {
    fn is_param(&self, ident: &Ident) -> bool {
        self.params.contains(&ident)
    }

    fn idents_in(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.idents_in(group.stream()),
                TokenTree::Ident(ident) if self.is_param(&ident) => {
                    self.directly.insert(ident);
                }
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Mentioned<'_> {
    fn visit_type_path(&mut self, ty: &'ast TypePath) {
        let of_param = match &ty.qself {
            Some(qself) => matches!(&*qself.ty, Type::Path(inner) if inner.path.get_ident().is_some_and(|i| self.is_param(i))),
            None => ty.path.leading_colon.is_none() && ty.path.segments.len() > 1 && self.is_param(&ty.path.segments[0].ident),
        };
        if of_param {
            self.projections.push(Type::Path(ty.clone()));
        } else {
            visit::visit_type_path(self, ty);
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if path.segments.last().is_some_and(|last| last.ident == "PhantomData") {
            return;
        }
        if let Some(ident) = path.get_ident()
            && self.is_param(ident)
        {
            self.directly.insert(ident.clone());
        }
        visit::visit_path(self, path);
    }

    fn visit_type_bare_fn(&mut self, _: &'ast TypeBareFn) {
        // A function pointer holds no values of its signature's types.
    }

    fn visit_macro(&mut self, mac: &'ast Macro) {
        // What it expands to isn't known; whatever it was given may be in it.
        self.idents_in(mac.tokens.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::ToTokens;

    fn of(input: DeriveInput) -> Vec<String> {
        predicates(&input, &parse_quote!(Far)).iter().map(|p| p.to_token_stream().to_string()).collect()
    }

    #[test]
    fn a_parameter_in_a_field_must_be_far() {
        assert_eq!(
            of(parse_quote!(
                struct S<T, const N: usize> {
                    a: Option<[T; N]>,
                }
            )),
            ["T : Far"]
        );
        assert_eq!(
            of(parse_quote!(
                enum E<A, B> {
                    X(A),
                    Y { b: B },
                    Z,
                }
            )),
            ["A : Far", "B : Far"]
        );
        assert_eq!(
            of(parse_quote!(
                struct S<T>(tuple_of!(T, 3));
            )),
            ["T : Far"]
        );
    }

    #[test]
    fn a_parameter_without_a_value_must_only_be_static() {
        assert_eq!(
            of(parse_quote!(
                struct S<T>(PhantomData<T>, std::marker::PhantomData<[T]>);
            )),
            ["T : 'static"]
        );
        assert_eq!(
            of(parse_quote!(
                struct S<A, B>(fn(A) -> B);
            )),
            ["A : 'static", "B : 'static"]
        );
    }

    #[test]
    fn an_associated_type_is_bounded_itself() {
        assert_eq!(
            of(parse_quote!(
                struct S<I: Iterator> {
                    x: Option<I::Item>,
                }
            )),
            ["I : 'static", "I :: Item : Far"]
        );
        let qualified = of(parse_quote!(
            struct S<I: Iterator>(<I as Iterator>::Item, I);
        ));
        assert_eq!(qualified, ["I : Far", "< I as Iterator > :: Item : Far"]);
    }
}
