//! `lacuna run` and `lacuna demo`: the loop on a task, its table and its page.

use std::path::Path;

use serde_json::json;

use super::options::Recipe;
use super::report;
use super::setup::Setup;
use crate::error::Result;
use crate::report::write_page;
use crate::run::live;
use crate::run::summary::Method;

impl Setup {
    /// The methods that a run compares on the test rows. By the paper's recipe the model that learnt synthetic rows alone is delivered.
    pub(super) fn methods_of_run(&mut self, recipe: Recipe) -> Vec<Method> {
        let mut methods = vec![Method::GoldOnly];
        methods.extend((self.task.reads() || self.task.lists().is_some()).then_some(Method::ReadGold));
        methods.extend([Method::Seed, Method::S3]);
        if recipe == Recipe::Paper {
            self.chooses = false;
        } else {
            methods.push(Method::S3Gold);
        }
        methods
    }
}

/// Runs a task in a folder; returns its table.
///
/// # Errors
/// Those of [`Setup::run`].
pub fn run_task(mut setup: Setup, folder: &Path, recipe: Recipe) -> Result<String> {
    let methods = setup.methods_of_run(recipe);
    let delivery = setup.run(folder, &methods, &mut None)?;
    live::tell("done", &json!({"run": folder, "delivered": delivery.delivered, "results": delivery.results}));
    // A run is done without its page, which can be written again.
    let page = match write_page(folder) {
        Ok(path) => format!("report       {}\n", path.display()),
        Err(error) => format!("report       not written: {error}; lacuna report {} tries again\n", folder.display()),
    };
    Ok(report::of_run(&delivery, folder) + &page)
}
