//! The arrows among the files of one crate.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::paths::{Paths, Segments};

/// A module, as its path from the crate's root; the root is empty.
type Module = Vec<String>;

/// Who imports whom.
#[derive(Debug)]
pub struct Graph {
    files: BTreeMap<Module, Paths>,
    /// From a module to those that it imports.
    arrows: BTreeMap<Module, BTreeSet<Module>>,
}

impl Graph {
    /// Reads the crate whose root is `src/lib.rs`.
    ///
    /// # Errors
    /// A file that cannot be read, or is not Rust, by its name.
    pub fn read(src: &Path) -> Result<Graph, String> {
        let mut files = BTreeMap::new();
        read_folder(src, &mut Vec::new(), &mut files)?;
        let declared = |module: &Module| {
            let parent = module.split_last().and_then(|(own, parent)| Some((own, files.get(parent)?)));
            parent.is_none_or(|(own, parent)| parent.children.contains(own))
        };
        // Files of tests are declared under `cfg(test)`.
        let tests: Vec<Module> = files.keys().filter(|module| !declared(module)).cloned().collect();
        tests.iter().for_each(|module| drop(files.remove(module)));
        let mut graph = Graph { files, arrows: BTreeMap::new() };
        let arrows = graph.files.keys().map(|module| (module.clone(), graph.imports_of(module)));
        graph.arrows = arrows.collect();
        Ok(graph)
    }

    fn imports_of(&self, module: &Module) -> BTreeSet<Module> {
        let paths = &self.files[module];
        let foreign = paths.exported.iter().map(|(_, path)| path).filter(|path| {
            // What a module re-exports of its own descendants is no import of it.
            self.absolute(module, path).is_some_and(|path| !path.starts_with(module) || path.len() == module.len())
        });
        let all = paths.named.iter().chain(foreign);
        all.filter_map(|path| self.file_of(&self.absolute(module, path)?, 0)).filter(|found| found != module).collect()
    }

    /// A path from the crate's root; none if it leads out of the crate.
    fn absolute(&self, module: &Module, path: &Segments) -> Option<Segments> {
        let mut at = module.clone();
        let mut rest = path.as_slice();
        match rest.first()?.as_str() {
            "crate" => (at, rest) = (Vec::new(), &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {}
            first if self.files[module].children.iter().any(|child| child == first) => {}
            _ => return None,
        }
        while rest.first().is_some_and(|first| first == "super") {
            at.pop()?;
            rest = &rest[1..];
        }
        at.extend_from_slice(rest);
        Some(at)
    }

    /// The file that defines what a path from the root leads to, through any number of doors.
    fn file_of(&self, path: &Segments, depth: usize) -> Option<Module> {
        let length = (0..=path.len()).rev().find(|&length| self.files.contains_key(&path[..length]))?;
        let (module, name) = (path[..length].to_vec(), path.get(length));
        let behind = name.and_then(|name| {
            let (_, target) = self.files[&module].exported.iter().find(|(own, _)| own == name)?;
            self.absolute(&module, target).filter(|_| depth < 8)
        });
        behind.map_or(Some(module), |target| self.file_of(&target, depth + 1))
    }

    /// Sets of files that import each other, directly or through others.
    pub fn circles(&self) -> Vec<Vec<String>> {
        let reach: BTreeMap<&Module, BTreeSet<&Module>> = self.arrows.keys().map(|module| (module, self.reachable(module))).collect();
        let mut circles: Vec<Vec<String>> = Vec::new();
        let mut seen = BTreeSet::new();
        for (module, targets) in &reach {
            if targets.contains(module) && seen.insert(*module) {
                let mates: Vec<&Module> = targets.iter().filter(|other| reach[**other].contains(module)).copied().collect();
                seen.extend(mates.iter().copied());
                circles.push(mates.into_iter().map(name).collect());
            }
        }
        circles
    }

    fn reachable<'g>(&'g self, module: &Module) -> BTreeSet<&'g Module> {
        let mut found = BTreeSet::new();
        let mut left: Vec<&Module> = self.arrows[module].iter().collect();
        while let Some(next) = left.pop() {
            if found.insert(next) {
                left.extend(&self.arrows[next]);
            }
        }
        found
    }

    /// What would lead past this graph, by file: globs, other names for the crate, modules from elsewhere.
    pub fn refused(&self) -> Vec<String> {
        self.files.iter().flat_map(|(module, paths)| paths.refused.iter().map(move |what| format!("{}: {what}", name(module)))).collect()
    }

    /// Arrows between rooms, the first segments of modules: from, to, and a file that draws it.
    pub fn between_rooms(&self) -> Vec<(String, String, String)> {
        let mut arrows = BTreeMap::new();
        for (from, targets) in &self.arrows {
            for to in targets {
                if let (Some(room), Some(other)) = (from.first(), to.first())
                    && room != other
                {
                    arrows.entry((room.clone(), other.clone())).or_insert_with(|| format!("{} imports {}", name(from), name(to)));
                }
            }
        }
        arrows.into_iter().map(|((from, to), example)| (from, to, example)).collect()
    }

    /// The rooms: first segments of modules.
    pub fn rooms(&self) -> BTreeSet<String> {
        self.files.keys().filter_map(|module| module.first().cloned()).collect()
    }
}

fn name(module: &Module) -> String {
    if module.is_empty() { "lib".to_string() } else { module.join("::") }
}

fn read_folder(folder: &Path, module: &mut Module, files: &mut BTreeMap<Module, Paths>) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            module.push(stem);
            read_folder(&path, module, files)?;
            module.pop();
        } else if path.extension().is_some_and(|extension| extension == "rs") && !(module.is_empty() && stem == "main") {
            let own: Module = module.iter().cloned().chain((stem != "lib" && stem != "mod").then_some(stem)).collect();
            let source = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let paths = Paths::of(&source).map_err(|e| format!("{}: {e}", path.display()))?;
            files.insert(own, paths);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(files: &[(&str, &str)]) -> Graph {
        let folder = tempfile::tempdir().unwrap();
        for (name, source) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, source).unwrap();
        }
        Graph::read(folder.path()).unwrap()
    }

    #[test]
    fn a_circle_through_a_door_is_found_and_the_door_is_not_in_it() {
        let found = graph(&[
            ("lib.rs", "pub mod a; pub mod b;"),
            ("a/mod.rs", "mod x; pub use x::X;"),
            ("a/x.rs", "use crate::b::Y; pub struct X;"),
            ("b.rs", "use crate::a::X; pub struct Y;"),
        ]);
        assert_eq!(found.circles(), [vec!["a::x".to_string(), "b".to_string()]]);
        let rooms: Vec<(String, String)> = found.between_rooms().into_iter().map(|(from, to, _)| (from, to)).collect();
        assert_eq!(rooms, [("a".to_string(), "b".to_string()), ("b".to_string(), "a".to_string())]);
    }

    #[test]
    fn a_parent_that_uses_its_child_and_is_used_by_it_is_a_circle() {
        let found = graph(&[("lib.rs", "mod p;"), ("p.rs", "mod c; use c::C; pub struct P;"), ("p/c.rs", "use super::P; pub struct C;")]);
        assert_eq!(found.circles(), [vec!["p".to_string(), "p::c".to_string()]]);
    }

    #[test]
    fn one_direction_has_no_circle() {
        let found = graph(&[
            ("lib.rs", "mod a; mod b; pub use a::A;"),
            ("a.rs", "pub struct A;"),
            ("b.rs", "use crate::A; fn f(_: A) {}"),
            ("c.rs", ""),
        ]);
        assert!(found.circles().is_empty(), "{:?}", found.circles());
    }
}
