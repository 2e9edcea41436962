//! `lacuna run` and `lacuna demo`: the loop on a task, its table and its page.

use std::path::Path;

use serde_json::json;

use super::options::Recipe;
use super::report;
use super::setup::Setup;
use super::worth::{Curve, worth_of};

use crate::error::Result;
use crate::files::whole::write_json;
use crate::report::write_page;
use crate::run::folder::{MANIFEST, RunDir};
use crate::run::live;
use crate::run::summary::{Delivery, Method, WORTH};

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
pub fn run_task(mut setup: Setup, task: &Path, folder: &Path, recipe: Recipe) -> Result<String> {
    let methods = setup.methods_of_run(recipe);
    let mut generator = None;
    if !folder.join(MANIFEST).exists() && setup.is_worth_a_trial(&methods)? {
        // What would keep the run from its folder is told before the minute that it takes.
        drop(RunDir::open(folder)?);
        setup.try_out(&methods, &mut generator)?;
    }
    let delivery = setup.run(folder, &methods, &mut generator)?;
    let worth = worth(&setup, task, &delivery);
    if let Some(worth) = &worth {
        write_json(&folder.join(WORTH), &json!({"human_labels": worth}))?;
    }
    let worth = worth.map_or(String::new(), |worth| format!("worth        {worth} human labels, by the task's learning curve\n"));
    live::tell("done", &json!({"run": folder, "delivered": delivery.delivered, "results": delivery.results}));
    // A run is done without its page, which can be written again.
    let page = match write_page(folder) {
        Ok(path) => format!("report       {}\n", path.display()),
        Err(error) => format!("report       not written: {error}; lacuna report {} tries again\n", folder.display()),
    };
    Ok(report::of_run(&delivery, folder) + &worth + &page)
}

/// What the delivered model is worth, where `lacuna learning-curve` has measured this student on these test rows.
fn worth(setup: &Setup, task: &Path, delivery: &Delivery) -> Option<String> {
    let curve = Curve::find(None, task).ok().flatten().filter(|curve| curve.check(&setup.student()).is_ok())?;
    let own = delivery.results.iter().find(|result| result.method == delivery.delivered)?;
    Some(worth_of(&own.measured.right(), &curve))
}
