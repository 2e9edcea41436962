//! docs/task-file.md, the reference of the task file, is generated from the types: their keys, defaults and doc comments.
//!
//!     UPDATE_DOCS=1 cargo nextest run --release -p lacuna --test task_file_reference

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use lacuna::task::file::{DeliverKeys, ReadKeys, Task};
use serde_json::Value;
use syn::{Attribute, Expr, Fields, GenericArgument, Item, ItemEnum, ItemStruct, Lit, Meta, PathArguments, Type};

/// The files that the keys are in.
const SOURCES: [&str; 6] = [
    "src/task/file.rs",
    "src/task/label_keys.rs",
    "src/task/prompt_keys.rs",
    "src/data/example.rs",
    "src/data/read.rs",
    "src/generator/repetition.rs",
];
/// Types of other crates, in words.
const PRECISION: &str = "\"auto\", \"f32\", \"bf16\" or \"int16\"";

/// Keys that a task must have, by the struct that they are in.
const MUST: [(&str, &[&str]); 4] =
    [("Task", &["name", "kind"]), ("DataKeys", &["gold"]), ("ModelKeys", &["generator", "small"]), ("ListKeys", &["title"])];
/// Keys whose default depends on others: what they mean says it.
const DEPENDS: [&str; 2] = ["about", "min_steps"];

/// A whole task, in which every key with a default is left out.
const SHORTEST: &str = r#"
name = "n"
kind = "text"
about = "a text"
labels = ["a", "b"]
[data]
gold = "gold.jsonl"
[models]
generator = "g.gguf"
small = "small"
[list]
title = "t"
"#;

/// What the task file says, key by key.
struct Reference {
    structs: BTreeMap<String, ItemStruct>,
    enums: BTreeMap<String, ItemEnum>,
    defaults: Value,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_reference_is_that_of_the_types() {
    let made = Reference::read().in_markdown();
    let path = root().join("docs/task-file.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == made, "docs/task-file.md is not that of the types; make it anew with UPDATE_DOCS=1 (see the head of this test)");
    let undocumented: Vec<&str> = made.lines().filter(|line| line.starts_with("| `") && line.ends_with("|  |")).collect();
    assert!(undocumented.is_empty(), "keys without a meaning: {undocumented:#?}");
}

impl Reference {
    fn read() -> Reference {
        let (mut structs, mut enums) = (BTreeMap::new(), BTreeMap::new());
        for source in SOURCES {
            let content = std::fs::read_to_string(root().join(source)).unwrap();
            for item in syn::parse_file(&content).unwrap().items {
                match item {
                    Item::Struct(item) => drop(structs.insert(item.ident.to_string(), item)),
                    Item::Enum(item) => drop(enums.insert(item.ident.to_string(), item)),
                    _ => {}
                }
            }
        }
        let task = Task::parse_all(SHORTEST, Path::new("task.toml")).unwrap().0;
        let mut defaults = serde_json::to_value(task).unwrap();
        // Where all of a table is as by default, it is left out.
        defaults["read"] = serde_json::to_value(ReadKeys::default()).unwrap();
        defaults["deliver"] = serde_json::to_value(DeliverKeys::default()).unwrap();
        Reference { structs, enums, defaults }
    }

    fn in_markdown(&self) -> String {
        let mut text = "# The task file\n\nGenerated from the types (`tests/task_file_reference.rs`). A key without a default must be given. README has a whole task in a\ndozen lines; every other key has a default.\n"
            .to_string();
        let task = &self.structs["Task"];
        self.table("At the top", task, &self.defaults, &mut text);
        for field in &task.fields {
            let (name, kind) = (field.ident.as_ref().unwrap().to_string(), inner(&field.ty));
            let Some(own) = self.structs.get(&kind) else { continue };
            let (title, of) =
                if name == "labels" { ("`[[labels]]`".to_string(), &Value::Null) } else { (format!("`[{name}]`"), &self.defaults[&name]) };
            self.table(&title, own, of, &mut text);
            for field in &own.fields {
                if let Some(inside) = self.structs.get(&inner(&field.ty)).filter(|_| name != "prompts") {
                    let key = field.ident.as_ref().unwrap().to_string();
                    self.table(&format!("`[{name}.{key}]`"), inside, &of[&key], &mut text);
                }
            }
        }
        self.table("A prompt that writes: `rationale`, `seed`, `extrapolate`", &self.structs["WritingPrompt"], &Value::Null, &mut text);
        self.table("A prompt that judges: `[[prompts.judge]]`", &self.structs["JudgePrompt"], &Value::Null, &mut text);
        text
    }

    /// A table of the keys of a struct that are no tables themselves.
    fn table(&self, title: &str, of: &ItemStruct, defaults: &Value, text: &mut String) {
        let _ = write!(text, "\n## {title}\n\n");
        let about = comment(&of.attrs);
        if !about.is_empty() && title != "At the top" {
            let _ = write!(text, "{about}\n\n");
        }
        text.push_str("| key | what it is | default | meaning |\n| --- | --- | --- | --- |\n");
        let Fields::Named(fields) = &of.fields else { panic!("{title}: a struct without names") };
        for field in &fields.named {
            let name = field.ident.as_ref().unwrap().to_string();
            let kind = inner(&field.ty);
            if self.structs.contains_key(&kind) && kind != "LabelKeys" && !kind.ends_with("Prompt") {
                continue;
            }
            let must = MUST.iter().any(|(own, keys)| of.ident == own && keys.contains(&name.as_str()));
            let value = if must || DEPENDS.contains(&name.as_str()) { &Value::Null } else { &defaults[&name] };
            let default = shown(value, is_optional(&field.ty), !must && (has_default(&field.attrs) || DEPENDS.contains(&name.as_str())));
            let what = self.in_words(&field.ty);
            let _ = writeln!(text, "| `{name}` | {what} | {default} | {} |", comment(&field.attrs).replace('|', "\\|"));
        }
    }

    fn in_words(&self, of: &Type) -> String {
        let kind = inner(of);
        let one = match kind.as_str() {
            "String" => "text".to_string(),
            "bool" => "true or false".to_string(),
            "usize" | "u32" | "u64" => "whole number".to_string(),
            "f32" | "f64" => "number".to_string(),
            "Precision" => PRECISION.to_string(),
            "LabelKeys" => "labels".to_string(),
            "WritingPrompt" | "JudgePrompt" => "prompt".to_string(),
            "BTreeMap" => "table of texts".to_string(),
            other => match self.enums.get(other) {
                Some(own) => own
                    .variants
                    .iter()
                    .map(|variant| format!("`\"{}\"`", snake(&variant.ident.to_string())))
                    .collect::<Vec<_>>()
                    .join(" or "),
                None => panic!("{other}: a type that has no words here"),
            },
        };
        if is_list(of) && one != "labels" { format!("list of {one}s") } else { one }
    }
}

/// The type inside `Option` and `Vec`.
fn inner(of: &Type) -> String {
    let (name, inside) = parts(of);
    match inside {
        Some(inside) if name == "Option" || name == "Vec" => inner(inside),
        _ => name,
    }
}

fn is_optional(of: &Type) -> bool {
    parts(of).0 == "Option"
}

fn is_list(of: &Type) -> bool {
    let (name, inside) = parts(of);
    name == "Vec" || (name == "Option" && inside.is_some_and(is_list))
}

/// A type's name and its first argument.
fn parts(of: &Type) -> (String, Option<&Type>) {
    let Type::Path(path) = of else { panic!("a type without a name") };
    let last = path.path.segments.last().unwrap();
    let inside = match &last.arguments {
        PathArguments::AngleBracketed(arguments) => arguments.args.iter().find_map(|argument| match argument {
            GenericArgument::Type(inside) => Some(inside),
            _ => None,
        }),
        _ => None,
    };
    (last.ident.to_string(), inside)
}

/// Whether serde fills it in.
fn has_default(attributes: &[Attribute]) -> bool {
    let is_default = |attribute: &Attribute| {
        attribute.path().is_ident("serde") && quote::ToTokens::to_token_stream(&attribute.meta).to_string().contains("default")
    };
    attributes.iter().any(is_default)
}

/// A doc comment, as Markdown for people who do not read the sources.
fn comment(attributes: &[Attribute]) -> String {
    let line = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value().trim().to_string()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    let joined = attributes.iter().filter_map(line).collect::<Vec<_>>().join(" ");
    // A link to a place in the sources is its last word.
    let mut text = String::new();
    let mut rest = joined.as_str();
    while let Some((before, after)) = rest.split_once("[`") {
        let (name, after) = after.split_once("`]").unwrap_or((after, ""));
        let _ = write!(text, "{before}`{}`", name.rsplit("::").next().unwrap_or(name));
        rest = after;
    }
    text + rest
}

fn shown(value: &Value, optional: bool, filled: bool) -> String {
    match value {
        Value::Null if optional || filled => String::new(),
        Value::Null => "–".to_string(),
        Value::Array(items) if items.is_empty() => "none".to_string(),
        Value::Array(_) | Value::Object(_) => String::new(),
        // As it is written in a float of 32 bits.
        Value::Number(number) if number.is_f64() => format!("`{}`", number.as_f64().unwrap_or_default() as f32),
        other => format!("`{other}`"),
    }
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for (i, letter) in name.char_indices() {
        if letter.is_uppercase() && i > 0 {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}
