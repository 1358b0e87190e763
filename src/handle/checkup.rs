//! The doctor on an open store.

use tidelock_actors::limits::{DOCTOR_ROWS, DOCTOR_STORE};
use tidelock_actors::ports::Reader;

use super::Tidelock;
use crate::adapters::sqlite::{OperationState, QueueFilter};
use crate::adapters::supabase::SERVER_EPOCH;
use crate::config::Config;
use crate::doctor::{self, Checkup, Store};
use crate::locks::locked_to_read;
use crate::runtime::on;

impl Tidelock {
    /// Looks at everything that tidelock needs: the store, its room and its backups, and the way to the server, its tables
    /// and what this user may do there. Nothing is changed by it, here or there, and it ends within two minutes.
    pub async fn doctor(&self) -> Checkup {
        self.doctor_under(self.config()).await
    }

    /// As [`Self::doctor`], under a configuration from which this store was opened with some changes, as commands do.
    #[doc(hidden)]
    pub async fn doctor_under(&self, config: Config) -> Checkup {
        let this = self.clone();
        let look = async move {
            let token = locked_to_read(&this.inner.token).clone();
            doctor::with_store(&config, token, this.told().await).await
        };
        on(&self.inner.parts.thread, look).await.unwrap_or_else(|error| {
            let mut checkup = Checkup::default();
            checkup.fail("store", format!("tidelock has stopped: {error}"), "start tidelock again");
            checkup
        })
    }

    async fn told(&self) -> Store {
        let verified = match tokio::time::timeout(DOCTOR_STORE, self.verify_integrity()).await {
            Ok(verified) => verified.map(Some).map_err(|error| error.to_string()),
            Err(_) => Ok(None),
        };
        let parked = QueueFilter { state: Some(OperationState::Parked), limit: DOCTOR_ROWS, ..QueueFilter::default() };
        let mut checkpoints = self.inner.reads.checkpoints().await.unwrap_or_default();
        Store {
            verified,
            stats: self.stats().await.map_err(|error| error.to_string()),
            status: self.status(),
            parked: self.queue(parked).await.unwrap_or_default(),
            backups: self.backups().info().await.map_err(|error| error.to_string()),
            epoch: checkpoints.remove(SERVER_EPOCH).filter(|epoch| !epoch.is_empty()),
        }
    }
}
