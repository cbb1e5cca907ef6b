//! Where requests go, told whole or as what has changed, and what a reader makes of it.
//!
//! The table of routes is a function of the ledger's state: validators that make it by the same
//! rules have the same one at a height. So a reader may go on with another validator from the
//! height that it knows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use types::{AccountId, AllocationId, DeploymentId, Digest, HostId};
use utoipa::ToSchema;

/// A service among all of a network.
pub type ServiceKey = (DeploymentId, String);

/// Where requests go: all of it, or what has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Routes {
    /// What is told is true at this height of the ledger.
    pub height: u64,
    /// Names the network and the rules by which its table of routes is made: heights mean the
    /// same to all who tell the same. Without one, all is told always.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub table: Option<Digest>,
    /// Only what has changed since this height is told; without it, all there is.
    #[serde(default)]
    pub since: Option<u64>,
    /// Services; of changes: those that are new or changed, each with those of its replicas that
    /// are new or changed.
    pub routes: Vec<Route>,
    /// Of changes: what is no longer there. It goes before `routes` come.
    #[serde(default)]
    pub gone: Vec<Gone>,
}

/// A service that is no longer there, or one replica of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Gone {
    #[schema(value_type = String)]
    pub deployment: DeploymentId,
    pub service: String,
    /// Without one, the whole service.
    #[schema(value_type = Option<String>)]
    pub allocation: Option<AllocationId>,
}

/// What is told does not follow on what is known: all must be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotNext;

/// What a reader knows of where requests go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownRoutes {
    known: Option<(Option<Digest>, u64)>,
    services: BTreeMap<ServiceKey, Route>,
}

impl KnownRoutes {
    /// Table, if it has a name, and height of what was told last.
    pub fn known(&self) -> Option<(Option<Digest>, u64)> {
        self.known
    }

    /// All is to be told next.
    pub fn ask_all(&mut self) {
        self.known = None;
    }

    /// Replicas of each are in the order of their ids.
    pub fn services(&self) -> &BTreeMap<ServiceKey, Route> {
        &self.services
    }

    /// Takes over what was told, and returns the services that may differ now.
    ///
    /// Errors: [`NotNext`]; nothing has changed then.
    pub fn take(&mut self, told: Routes) -> Result<BTreeSet<ServiceKey>, NotNext> {
        let mut changed = BTreeSet::new();
        if let Some(since) = told.since {
            if told.table.is_none() || self.known != Some((told.table, since)) {
                return Err(NotNext);
            }
        } else {
            changed.extend(std::mem::take(&mut self.services).into_keys());
        }
        for gone in told.gone {
            let key = (gone.deployment, gone.service);
            match (gone.allocation, self.services.get_mut(&key)) {
                (None, _) => drop(self.services.remove(&key)),
                (Some(allocation), Some(route)) => {
                    route.replicas.retain(|u| u.allocation != allocation);
                }
                (Some(_), None) => {}
            }
            changed.insert(key);
        }
        for mut route in told.routes {
            let key = (route.deployment, route.service.clone());
            let before = self.services.remove(&key);
            let mut replicas: BTreeMap<AllocationId, Upstream> = before
                .into_iter()
                .flat_map(|route| route.replicas)
                .map(|u| (u.allocation, u))
                .collect();
            replicas.extend(route.replicas.drain(..).map(|u| (u.allocation, u)));
            route.replicas = replicas.into_values().collect();
            self.services.insert(key.clone(), route);
            changed.insert(key);
        }
        self.known = Some((told.table, told.height));
        Ok(changed)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Route {
    #[schema(value_type = String)]
    pub deployment: DeploymentId,
    #[schema(value_type = String)]
    pub owner: AccountId,
    pub service: String,
    /// `<service>.<label>`; the gateway adds its own domain (`.localhost`).
    pub domain: String,
    /// Published ports: on the gateway → in the container. UDP is apart.
    #[schema(value_type = Vec<Object>)]
    pub ports: Vec<types::PortSpec>,
    /// Port that HTTP requests for the domain go to: the first TCP one published or exposed.
    pub http_port: Option<u16>,
    pub frozen: bool,
    /// Of an autoscaled service.
    #[serde(default)]
    pub scale: Option<RouteScale>,
    pub replicas: Vec<Upstream>,
}

/// What a gateway must know of an autoscaled service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteScale {
    pub min: u32,
    /// Replicas that it shall have now.
    pub wanted: u32,
    /// A request does not wake it.
    pub stopped: bool,
    /// Why nothing runs though it is wanted; empty if there is nothing to say.
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Upstream {
    #[schema(value_type = String)]
    pub allocation: AllocationId,
    #[schema(value_type = String)]
    pub host: HostId,
    /// Agent of its host: for tunnels.
    pub host_address: String,
    /// Digest of the machine's boot id: equal to the gateway's own means directly reachable.
    #[schema(value_type = String)]
    pub machine: Digest,
    /// On the service's first network.
    #[schema(value_type = Vec<u8>)]
    pub address: [u8; 4],
    pub ready: bool,
    /// It was ready when its host was last heard, and may still serve: a last resort.
    pub unheard: bool,
    /// It is on its way out: those who are connected may end what they do.
    #[serde(default)]
    pub leaving: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(number: u64, ready: bool) -> Upstream {
        Upstream {
            allocation: AllocationId(number),
            host: AccountId::default(),
            host_address: "http://127.0.0.1:1".into(),
            machine: Digest::default(),
            address: [10, 64, 0, number as u8],
            ready,
            unheard: false,
            leaving: false,
        }
    }

    fn route(service: &str, replicas: Vec<Upstream>) -> Route {
        Route {
            deployment: DeploymentId(1),
            owner: AccountId::default(),
            service: service.into(),
            domain: format!("{service}.app"),
            ports: Vec::new(),
            http_port: Some(80),
            frozen: false,
            scale: None,
            replicas,
        }
    }

    fn key(service: &str) -> ServiceKey {
        (DeploymentId(1), service.into())
    }

    #[test]
    fn changes_are_taken_over_and_only_if_they_follow() {
        let table = Digest::of(b"table");
        let mut known = KnownRoutes::default();
        let both = vec![upstream(1, true), upstream(2, true)];
        let whole = Routes {
            height: 5,
            table: Some(table),
            routes: vec![route("web", both), route("db", vec![upstream(3, true)])],
            ..Routes::default()
        };
        assert_eq!(known.take(whole.clone()).unwrap().len(), 2);
        let gone = |service: &str, allocation: Option<u64>| Gone {
            deployment: DeploymentId(1),
            service: service.into(),
            allocation: allocation.map(AllocationId),
        };
        let next = Routes {
            height: 8,
            table: Some(table),
            since: Some(5),
            routes: vec![
                route("web", vec![upstream(4, true), upstream(2, false)]),
                route("new", Vec::new()),
            ],
            gone: vec![gone("db", None), gone("web", Some(1)), gone("web", Some(9))],
        };
        let changed = known.take(next.clone()).unwrap();
        assert_eq!(changed, BTreeSet::from([key("db"), key("new"), key("web")]));
        let services: Vec<&Route> = known.services().values().collect();
        let web = route("web", vec![upstream(2, false), upstream(4, true)]);
        assert_eq!(services, [&route("new", Vec::new()), &web]);
        assert_eq!(known.known(), Some((Some(table), 8)));

        let before = known.clone();
        let mut asking = known.clone();
        asking.ask_all();
        assert_eq!(asking.known(), None);
        assert_eq!(asking.take(Routes::default()).unwrap().len(), 2);
        let other = Routes {
            table: Some(Digest::of(b"other")),
            since: Some(8),
            ..next.clone()
        };
        let nameless = Routes {
            table: None,
            since: Some(8),
            ..next.clone()
        };
        for told in [next, other, nameless] {
            assert_eq!(known.take(told), Err(NotNext));
        }
        assert_eq!(known, before);
        assert_eq!(known.take(whole).unwrap().len(), 3);
        assert_eq!(known.services().len(), 2);
        // Who names no table tells all, always.
        known.take(Routes::default()).unwrap();
        assert_eq!(
            (known.known(), known.services().len()),
            (Some((None, 0)), 0)
        );
    }
}
