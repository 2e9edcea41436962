//! The paths that a file names, as lists of their segments, and what it re-exports.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemExternCrate, ItemMod, ItemUse, Macro, Meta, Path, UseTree, Visibility};

/// Segments of a path, such as `["crate", "data", "example", "Input"]`; `*` for a glob.
pub type Segments = Vec<String>;

/// What one file says of others.
#[derive(Debug, Default)]
pub struct Paths {
    /// Paths in private `use` items, in code, in macros and attributes.
    pub named: Vec<Segments>,
    /// `pub use` items: the name that they give, and what it stands for.
    pub exported: Vec<(String, Segments)>,
    /// Names of the modules that the file declares.
    pub children: Vec<String>,
    /// What would lead past the test: it is refused.
    pub refused: Vec<String>,
    /// How many modules within the file lie around what is read.
    depth: usize,
}

impl Paths {
    /// Reads a file's source; items under `#[cfg(test)]` are left out.
    ///
    /// # Errors
    /// Source that is not Rust.
    pub fn of(source: &str) -> syn::Result<Paths> {
        let mut paths = Paths::default();
        paths.visit_file(&syn::parse_file(source)?);
        Ok(paths)
    }

    fn take_use(&mut self, item: &ItemUse) {
        let mut leaves = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut leaves);
        self.refused
            .extend(leaves.iter().filter(|(name, path)| is_unclear(name, path)).map(|(_, path)| format!("use {}", path.join("::"))));
        if matches!(item.vis, Visibility::Inherited) || self.depth > 0 {
            leaves.into_iter().for_each(|(_, path)| self.name(path));
        } else {
            self.exported.extend(leaves);
        }
    }

    /// `a :: b :: c` in the tokens of a macro or an attribute, which have no syntax of their own.
    fn take_tokens(&mut self, tokens: TokenStream) {
        let mut run: Segments = Vec::new();
        let mut colons = 0;
        let mut after_pub = false;
        for token in tokens {
            if std::mem::replace(&mut after_pub, matches!(&token, TokenTree::Ident(ident) if ident == "pub"))
                && matches!(token, TokenTree::Group(_))
            {
                continue;
            }
            match token {
                TokenTree::Ident(ident) if colons == 2 || run.is_empty() => {
                    run.push(ident.to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !run.is_empty() && colons < 2 => {
                    colons += 1;
                    continue;
                }
                _ => {}
            }
            self.end_run(&mut run);
            colons = 0;
            match token {
                TokenTree::Group(group) => self.take_tokens(group.stream()),
                TokenTree::Ident(ident) => run.push(ident.to_string()),
                // As in #[serde(with = "crate::…")].
                TokenTree::Literal(text) if text.to_string().starts_with("\"crate::") => {
                    self.name(text.to_string().trim_matches('"').split("::").map(str::to_string).collect());
                }
                _ => {}
            }
        }
        self.end_run(&mut run);
    }

    fn end_run(&mut self, run: &mut Segments) {
        let run = std::mem::take(run);
        if run.len() > 1 {
            self.name(run);
        }
    }

    /// Within a module of the file, as many `super` lead no further than to the file.
    fn name(&mut self, mut path: Segments) {
        let inside = path.iter().take(self.depth).take_while(|segment| *segment == "super").count();
        if inside > 0 {
            path.splice(..inside, ["self".to_string()]);
        }
        self.named.push(path);
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        if !attributes(item).is_some_and(|attributes| attributes.iter().any(is_test)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if item.content.is_none() {
            self.children.push(item.ident.to_string());
        }
        self.depth += 1;
        visit::visit_item_mod(self, item);
        self.depth -= 1;
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.take_use(item);
    }

    /// `pub(super)` says who may look, not what is looked at.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast Path) {
        self.name(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.visit_path(&call.path);
        self.take_tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        match &attribute.meta {
            Meta::List(list) => self.take_tokens(list.tokens.clone()),
            Meta::NameValue(pair) if attribute.path().is_ident("path") => {
                self.refused.push(format!("#[path = {}]", pair.value.to_token_stream()));
            }
            _ => {}
        }
    }

    fn visit_item_extern_crate(&mut self, item: &'ast ItemExternCrate) {
        self.refused.push(item.to_token_stream().to_string());
    }
}

/// The leaves of a `use` tree: the name that each gives, and its whole path.
fn flatten(tree: &UseTree, before: &mut Segments, leaves: &mut Vec<(String, Segments)>) {
    let mut leaf = |name: String, last: Option<String>| {
        leaves.push((name, before.iter().cloned().chain(last).collect()));
    };
    match tree {
        UseTree::Name(own) if own.ident == "self" => leaf(before.last().cloned().unwrap_or_default(), None),
        UseTree::Rename(own) if own.ident == "self" => leaf(own.rename.to_string(), None),
        UseTree::Name(own) => leaf(own.ident.to_string(), Some(own.ident.to_string())),
        UseTree::Rename(own) => leaf(own.rename.to_string(), Some(own.ident.to_string())),
        UseTree::Glob(_) => leaf("*".to_string(), Some("*".to_string())),
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, before, leaves)),
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, leaves);
            before.pop();
        }
    }
}

/// Whether a `use` hides which file it leads to: everything of a module, or the crate or a parent under another name.
fn is_unclear(name: &str, path: &Segments) -> bool {
    let within = matches!(path[0].as_str(), "crate" | "self" | "super");
    let parents = path.iter().all(|segment| matches!(segment.as_str(), "crate" | "self" | "super"));
    within && (name == "*" || parents)
}

/// Whether an attribute keeps its item for tests.
fn is_test(attribute: &Attribute) -> bool {
    let text: String = attribute.meta.to_token_stream().to_string().split_whitespace().collect();
    text == "test" || text == "cfg(test)"
}

fn attributes(item: &Item) -> Option<&[Attribute]> {
    Some(match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_do_not_count_and_macros_do() {
        let paths = Paths::of(
            "mod child; use crate::a::{B, c::D as E}; pub use child::F; pub(in crate::y) struct Y;\n\
             fn f() { println!(\"{}\", super::g::h(1)); m! { pub(in crate::y) fn z() }; crate::i::j() }\n\
             mod inner { use super::super::k::L; }\n\
             #[cfg(test)] mod tests { use crate::z::Z; }",
        )
        .unwrap();
        let named: Vec<String> = paths.named.iter().map(|path| path.join("::")).collect();
        for expected in ["crate::a::B", "crate::a::c::D", "super::g::h", "crate::i::j", "self::super::k::L"] {
            assert!(named.iter().any(|path| path == expected), "{expected} is not among {named:?}");
        }
        assert!(!named.iter().any(|path| path.contains('Z') || path.contains('y')), "{named:?}");
        assert_eq!(paths.exported, [("F".to_string(), vec!["child".to_string(), "F".to_string()])]);
        assert_eq!(paths.children, ["child"]);
    }
    #[test]
    fn what_hides_where_it_leads_is_refused_and_what_only_looks_like_a_test_counts() {
        for source in ["use crate::*;", "use super::*;", "use crate as root;", "use super::{self as up};", "extern crate self as lacuna;"] {
            assert_eq!(Paths::of(source).unwrap().refused.len(), 1, "{source}");
        }
        assert_eq!(Paths::of("#[path = \"synthesis.rs\"] mod x;").unwrap().refused, ["#[path = \"synthesis.rs\"]"]);
        let plain = "use crate::a::{self, B}; use std::io::*; #[cfg(test)] mod tests { use super::*; }";
        assert!(Paths::of(plain).unwrap().refused.is_empty());
        for source in [
            "#[cfg(not(test))] use crate::a::B;",
            "#[cfg(feature = \"test-kit\")] use crate::a::B;",
            "struct S { #[serde(with = \"crate::a::B\")] x: u8 }",
            "fn f() { crate::a::B!() }",
        ] {
            let named = Paths::of(source).unwrap().named;
            assert!(named.iter().any(|path| path.join("::") == "crate::a::B"), "{source}: {named:?}");
        }
    }
}
