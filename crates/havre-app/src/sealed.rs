//! The seal, for those who keep keys and do not know it.

use havre_base::{Sealing, one_line};
use havre_secrets::Seal;

/// The seal, as whoever keeps keys needs it.
pub(crate) struct Sealed(pub(crate) Seal);

impl Sealing for Sealed {
    fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, String> {
        let sealed = self.0.seal(context, plain);
        sealed.map_err(|error| one_line(&error))
    }

    fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let opened = self.0.open(context, sealed);
        opened
            .map(|plain| plain.to_vec())
            .map_err(|error| one_line(&error))
    }

    fn renewed(&self, context: &str, sealed: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let renewed = self.0.renewed(context, sealed);
        renewed.map_err(|error| one_line(&error))
    }
}
