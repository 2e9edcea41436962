//! Replies in a safetensors file: `log_probs` (rows, labels) and `states` (rows, layers, hidden), both F32.

use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::reply::Reply;
use crate::error::{Error, Result};
use crate::files::whole::write;

/// Writes replies of the same numbers of labels, layers and hidden units.
///
/// # Errors
/// The file cannot be written.
pub fn keep(path: &Path, replies: &[Reply]) -> Result<()> {
    let first = replies.first().cloned().unwrap_or_default();
    let hidden = first.states.first().map_or(0, Vec::len);
    let bytes = |numbers: &mut dyn Iterator<Item = &f32>| numbers.flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let log_probs = bytes(&mut replies.iter().flat_map(|reply| &reply.log_probs));
    let states = bytes(&mut replies.iter().flat_map(|reply| reply.states.iter().flatten()));
    let failed = |error: safetensors::SafeTensorError| Error::Failed(format!("{}: {error}", path.display()));
    let view = |shape: Vec<usize>, data| TensorView::new(Dtype::F32, shape, data).map_err(failed);
    let tensors = [
        ("log_probs", view(vec![replies.len(), first.log_probs.len()], &log_probs)?),
        ("states", view(vec![replies.len(), first.states.len(), hidden], &states)?),
    ];
    write(path, &safetensors::serialize(tensors, None).map_err(failed)?)
}

/// Reads replies; their groups are not kept.
///
/// # Errors
/// A file that cannot be read, or that [`keep`] did not write.
pub fn read(path: &Path) -> Result<Vec<Reply>> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let damaged = |reason: String| Error::Run(format!("{}: {reason}; remove the file, and it is made again", path.display()));
    let file = SafeTensors::deserialize(&bytes).map_err(|error| damaged(error.to_string()))?;
    let tensor = |name: &str| -> Result<(Vec<usize>, Vec<f32>)> {
        let view = file.tensor(name).map_err(|error| damaged(error.to_string()))?;
        if view.dtype() != Dtype::F32 {
            return Err(damaged(format!("{name} is not F32")));
        }
        let numbers = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Ok((view.shape().to_vec(), numbers))
    };
    let ((of_labels, log_probs), (of_states, states)) = (tensor("log_probs")?, tensor("states")?);
    let ([rows, labels], [same, layers, hidden]) = (&of_labels[..], &of_states[..]) else {
        return Err(damaged("its tensors have other shapes".into()));
    };
    if rows != same {
        return Err(damaged("its tensors have different numbers of rows".into()));
    }
    let reply = |row: usize| Reply {
        log_probs: log_probs[row * labels..][..*labels].to_vec(),
        group: None,
        states: (0..*layers).map(|layer| states[(row * layers + layer) * hidden..][..*hidden].to_vec()).collect(),
    };
    Ok((0..*rows).map(reply).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replies.safetensors");
        let reply = |x: f32| Reply { log_probs: vec![x, -x], states: vec![vec![x, 2.0, 3.0], vec![4.0, x, 6.0]], group: None };
        for replies in [vec![reply(0.5), reply(-1.5)], vec![Reply { states: vec![], ..reply(1.0) }], vec![]] {
            keep(&path, &replies).unwrap();
            assert_eq!(read(&path).unwrap(), replies);
        }
        std::fs::write(&path, b"half").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("replies.safetensors"));
    }
}
