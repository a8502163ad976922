//! The table of calls. One line here declares a call: its marker, its path, the role it needs, request
//! and answer, and how long a client waits. The client speaks any of them ([`crate::Client::call`]), a subsystem
//! answers them ([`crate::Routes`]), and the fake daemon of the tests scripts them.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::*;

/// A request that can say whether its names are sound and all else is within bounds. Nobody sees
/// one that is not.
pub trait Check {
    /// Why it is refused.
    fn check(&self) -> Result<(), ApiError>;
}

/// A call that answers with one document.
pub trait Call {
    /// `/v1/<name>`.
    const PATH: &'static str;
    /// What who asks must be where the request is about; `None`: the request itself proves who asks.
    const ROLE: Option<Role>;
    /// How long a client waits for the answer.
    const DEADLINE: Duration = Duration::from_secs(30);
    /// Most bytes of the request.
    const MAX_REQUEST: usize = MAX_SMALL_BYTES;
    /// Body of the request.
    type Request: Check + Concern + Serialize + DeserializeOwned + Send + 'static;
    /// Body of the answer.
    type Answer: Serialize + DeserializeOwned + Send + 'static;

    /// What of the answer belongs to the record of the call, without any value: of a login who came of it.
    fn told(_: &Self::Answer) -> Option<String> {
        None
    }
}

/// A call that changes an environment: answers with [`StreamItem`]s of [`Event`] and ends with
/// its outcome.
pub trait Operation {
    /// `/v1/<name>`.
    const PATH: &'static str;
    /// What who asks must be where the request is about.
    const ROLE: Role;
    /// Most bytes of the request.
    const MAX_REQUEST: usize = MAX_SMALL_BYTES;
    /// Body of the request.
    type Request: Check + Concern + Serialize + DeserializeOwned + Send + 'static;
    /// What the last item carries.
    type Outcome: Serialize + DeserializeOwned + Send + 'static;
}

/// A query that answers with [`StreamItem`]s, one after the other, until it ends or the client
/// leaves.
pub trait Feed {
    /// `/v1/<name>`.
    const PATH: &'static str;
    /// What who asks must be where the request is about.
    const ROLE: Role;
    /// Body of the request.
    type Request: Check + Concern + Serialize + DeserializeOwned + Send + 'static;
    /// What is sent.
    type Item: Serialize + DeserializeOwned + Send + 'static;
}

/// Sees each call that [`declared`] tells of.
pub trait Declared {
    /// A call that answers with one document.
    fn call<C: Call>(&mut self);
    /// One that changes an environment.
    fn operation<O: Operation>(&mut self);
    /// One that answers item by item.
    fn feed<F: Feed>(&mut self);
}

/// Path of the call that upgrades to [`ExecFrame`]s for an [`ExecRequest`].
pub const EXEC_PATH: &str = "/v1/exec";

/// The role that it needs. What runs in a container sees all that the container sees, secrets too.
pub const EXEC_ROLE: Role = Role::Admin;

/// Header of the answer to an [`Operation`] that carries its [`OperationId`].
pub const OPERATION_HEADER: &str = "havre-operation";

/// Most bytes of any request, an answer, or one line of a stream. A project with inline configs
/// is the largest of them.
pub const MAX_DOCUMENT_BYTES: usize = 32 * 1024 * 1024;

/// A client that sends slower is not waited for.
pub(crate) const SLOWEST_BYTES_PER_S: usize = 32_000;
/// How long a client may take in all to send what may be large.
pub(crate) const LARGE_DEADLINE: Duration = Duration::from_secs(120);

/// How long so many bytes take at the slowest.
pub(crate) fn at_slowest(bytes: usize) -> Duration {
    Duration::from_secs_f64(bytes as f64 / SLOWEST_BYTES_PER_S as f64)
}

/// Most bytes of a request, of most calls.
pub(crate) const MAX_SMALL_BYTES: usize = 1024 * 1024;
/// Of those with a secret, or a certificate and its key.
const MAX_VALUE_BYTES: usize = 4 * MAX_SMALL_BYTES;
/// Of parts of files: as text a third more than [`MAX_PIECES_BYTES`], and what each is.
const MAX_PARTS_BYTES: usize = 8 * MAX_SMALL_BYTES;

/// What who asks must be; of `Nobody` the request itself is to prove who it is, or needs to prove nothing.
macro_rules! needed {
    (Nobody) => {
        None
    };
    ($role:ident) => {
        Some(Role::$role)
    };
}

macro_rules! api {
    (
        calls { $($(#[$call_doc:meta])* $call:ident = $call_path:literal by $call_role:ident
            ($call_request:ty) -> $answer:ty $(, within $seconds:literal)? $(, tells $told:path)?
            $(, takes $call_most:ident)?;)* }
        operations { $($(#[$operation_doc:meta])* $operation:ident = $operation_path:literal by $operation_role:ident
            ($operation_request:ty) -> $outcome:ty $(, takes $operation_most:ident)?;)* }
        feeds { $($(#[$feed_doc:meta])* $feed:ident = $feed_path:literal by $feed_role:ident
            ($feed_request:ty) -> $item:ty;)* }
    ) => {
        $(
            $(#[$call_doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $call;

            impl Call for $call {
                const PATH: &'static str = $call_path;
                const ROLE: Option<Role> = needed!($call_role);
                $(const DEADLINE: Duration = Duration::from_secs($seconds);)?
                $(const MAX_REQUEST: usize = $call_most;)?
                type Request = $call_request;
                type Answer = $answer;
                $(fn told(answer: &$answer) -> Option<String> { Some($told(answer)) })?
            }
        )*
        $(
            $(#[$operation_doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $operation;

            impl Operation for $operation {
                const PATH: &'static str = $operation_path;
                const ROLE: Role = Role::$operation_role;
                $(const MAX_REQUEST: usize = $operation_most;)?
                type Request = $operation_request;
                type Outcome = $outcome;
            }
        )*
        $(
            $(#[$feed_doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $feed;

            impl Feed for $feed {
                const PATH: &'static str = $feed_path;
                const ROLE: Role = Role::$feed_role;
                type Request = $feed_request;
                type Item = $item;
            }
        )*

        /// Tells of every call that a subsystem has to answer: all but [`Cancel`], which
        /// the server answers itself, and [`EXEC_PATH`].
        pub fn declared(seen: &mut impl Declared) {
            $(seen.call::<$call>();)*
            $(seen.operation::<$operation>();)*
            $(seen.feed::<$feed>();)*
        }
    };
}

api! {
    calls {
        /// Who answers.
        Info = "/v1/info" by Viewer (Empty) -> DaemonInfo, within 5;
        /// What environments run on, and what it cannot do.
        TargetCapabilities = "/v1/target" by Viewer (Empty) -> TargetInfo, within 5;
        /// Environments and their services.
        Status = "/v1/status" by Viewer (StatusQuery) -> Vec<EnvironmentStatus>;
        /// Replicas.
        Replicas = "/v1/replicas" by Viewer (ReplicaQuery) -> Vec<ReplicaStatus>;
        /// What `up` would do; it waits for a build that is under way.
        Plan = "/v1/plan" by Deployer (PlanRequest) -> PlanOutcome, within 1800, takes MAX_DOCUMENT_BYTES;
        /// The releases of an environment, the newest first.
        Releases = "/v1/releases" by Viewer (ReleasesQuery) -> Vec<ReleaseStatus>;
        /// What can be said of where a release comes from: an in-toto statement with SLSA provenance.
        Provenance = "/v1/releases/provenance" by Viewer (ProvenanceQuery) -> serde_json::Value;
        /// Environments in the order in which releases go through them, and what waits for each.
        Environments = "/v1/environments" by Viewer (StatusQuery) -> Vec<EnvironmentInfo>;
        /// Puts in force what has to hold before anything new comes into environments.
        EnvironmentsApply = "/v1/environments/apply" by Admin (GatesRequest) -> Vec<EnvironmentInfo>;
        /// Lets nothing new come into an environment.
        EnvironmentFreeze = "/v1/environments/freeze" by Deployer (FreezeRequest) -> EnvironmentInfo;
        /// Whether a job of a run may begin in an environment.
        EnvironmentEnter = "/v1/environments/enter" by Deployer (EnterRequest) -> EntryStatus;
        /// Keeps what a test said of a release.
        EnvironmentReport = "/v1/environments/report" by Viewer (TestReportRequest) -> Empty;
        /// Asks for a release of one environment to come to another.
        Promote = "/v1/promote" by Deployer (PromoteRequest) -> PromotionStatus, within 300, tells PromotionStatus::told,
            takes MAX_DOCUMENT_BYTES;
        /// Promotions that wait or are under way, or one of them all.
        Promotions = "/v1/promotions" by Viewer (PromotionsQuery) -> Vec<PromotionStatus>;
        /// Agrees with a promotion.
        PromotionApprove = "/v1/promotions/approve" by Deployer (PromotionAnswer) -> PromotionStatus;
        /// Says no to one.
        PromotionReject = "/v1/promotions/reject" by Deployer (PromotionAnswer) -> PromotionStatus;
        /// Why a service is as it is.
        Why = "/v1/why" by Viewer (WhyQuery) -> WhyReport;
        /// Pauses, resumes or gives up the rollout under way.
        Steer = "/v1/steer" by Deployer (SteerRequest) -> SteerOutcome;
        /// Stored images.
        Images = "/v1/images" by Viewer (MachineQuery) -> Vec<ImageSummary>;
        /// Reads images from an archive.
        ImageImport = "/v1/images/import" by Admin (ImageImportRequest) -> ImageImportOutcome, within 1800;
        /// Looks for secrets in an image.
        ImageScan = "/v1/images/scan" by Admin (ImageScanRequest) -> ImageScanOutcome, within 1800;
        /// What is said of an image: in-toto statements, the newest first.
        ImageProvenance = "/v1/images/provenance" by Viewer (ImageProvenanceQuery) -> Vec<serde_json::Value>;
        /// Removes images by name.
        ImageRemove = "/v1/images/remove" by Admin (ImageRemoveRequest) -> ImageRemoveOutcome, within 300;
        /// Removes images that nothing needs.
        ImagePrune = "/v1/images/prune" by Admin (ImagePruneRequest) -> ImageRemoveOutcome, within 300;
        /// Networks that environments share.
        Networks = "/v1/networks" by Viewer (Empty) -> Vec<SharedNetwork>;
        /// Makes one.
        NetworkCreate = "/v1/networks/create" by Admin (NetworkCreateRequest) -> SharedNetwork;
        /// Removes one that no environment is on.
        NetworkRemove = "/v1/networks/remove" by Admin (NetworkRemoveRequest) -> Empty;
        /// Says what is lacking of a project's files; where nothing is, they are there from then on.
        SourcesOffer = "/v1/sources/offer" by Deployer (SourceOffer) -> SourceLack, within 900, takes MAX_DOCUMENT_BYTES;
        /// Takes parts of files that are lacking.
        SourcesPut = "/v1/sources/put" by Deployer (SourcePieces) -> Empty, within 120, takes MAX_PARTS_BYTES;
        /// Who asks.
        WhoAmI = "/v1/whoami" by Viewer (Empty) -> Identity, within 10;
        /// How people and programs can log in.
        Login = "/v1/login" by Nobody (Empty) -> LoginOffers, within 10;
        /// Exchanges an identity token for a short-lived one.
        LoginOidc = "/v1/login/oidc" by Nobody (OidcLoginRequest) -> IssuedToken, tells IssuedToken::told;
        /// Tokens, the oldest first.
        Tokens = "/v1/tokens" by Admin (MachineQuery) -> Vec<TokenInfo>;
        /// Makes one.
        TokenCreate = "/v1/tokens/create" by Admin (TokenCreateRequest) -> IssuedToken;
        /// Revokes one: what it has under way that only answers it ends.
        TokenRevoke = "/v1/tokens/revoke" by Admin (TokenRevokeRequest) -> TokenInfo;
        /// People with rights of their own, by name.
        Users = "/v1/users" by Admin (MachineQuery) -> Vec<UserInfo>;
        /// Enters one, or changes what they may do.
        UserAdd = "/v1/users/add" by Admin (UserAddRequest) -> UserInfo;
        /// Takes one's rights away. Refused of a member of the group `havre`, who would have all rights then.
        UserRemove = "/v1/users/remove" by Admin (UserRemoveRequest) -> UserInfo;
        /// Makes a value the one in use.
        SecretSet = "/v1/secret/set" by Deployer (SecretSetRequest) -> SecretSetOutcome, takes MAX_VALUE_BYTES;
        /// The value of a secret.
        SecretGet = "/v1/secret/get" by Admin (SecretGetRequest) -> SecretValue;
        /// Secrets, without their values.
        SecretList = "/v1/secret/list" by Viewer (SecretListQuery) -> Vec<SecretSummary>;
        /// The versions of a secret, without their values, the oldest first.
        SecretHistory = "/v1/secret/history" by Viewer (SecretQuery) -> Vec<SecretVersion>;
        /// Puts an earlier version into use.
        SecretRollback = "/v1/secret/rollback" by Deployer (SecretRollbackRequest) -> SecretSetOutcome;
        /// Removes a secret with all its versions.
        SecretRemove = "/v1/secret/remove" by Deployer (SecretRemoveRequest) -> Empty;
        /// Begins to rotate a secret, or says how far that is.
        SecretRotate = "/v1/secret/rotate" by Admin (SecretRotateRequest) -> SecretRotated, takes MAX_VALUE_BYTES;
        /// Carries a rotation on by a step that changes nothing that runs.
        SecretStep = "/v1/secret/step" by Admin (SecretStepRequest) -> SecretRotation, within 120;
        /// The releases that use a secret.
        SecretUses = "/v1/secret/uses" by Viewer (SecretQuery) -> Vec<SecretUse>;
        /// The seal under which secrets are kept.
        Seal = "/v1/seal" by Viewer (MachineQuery) -> SealReport;
        /// Adds a way to open it.
        SealAdd = "/v1/seal/add" by Admin (SealAddRequest) -> SealOutcome, within 120;
        /// Removes one.
        SealRemove = "/v1/seal/remove" by Admin (SealRemoveRequest) -> SealOutcome, within 120;
        /// Opens it, or sees whether a slot opens.
        SealUnlock = "/v1/seal/unlock" by Admin (SealUnlockRequest) -> SealOutcome, within 120;
        /// Makes another root key, and other keys under it.
        SealRekey = "/v1/seal/rekey" by Admin (MachineQuery) -> SealOutcome, within 120;
        /// Certificates by host.
        Certificates = "/v1/certificates" by Viewer (Empty) -> Vec<CertificateStatus>;
        /// Why a host's certificate is as it is; looks at the host's addresses from this machine.
        CertificatesWhy = "/v1/certificates/why" by Viewer (CertificateQuery) -> CertificateReport, within 120;
        /// Has an authority asked for a new one now.
        CertificatesRenew = "/v1/certificates/renew" by Deployer (CertificateQuery) -> Empty;
        /// Serves one that somebody brings.
        CertificatesImport = "/v1/certificates/import" by Admin (CertificateImport) -> CertificateImported, takes MAX_VALUE_BYTES;
        /// The certificate of the machine's CA.
        Ca = "/v1/ca" by Viewer (Empty) -> CaCertificate;
        /// What was done, the oldest first.
        AuditLog = "/v1/audit/log" by Admin (AuditQuery) -> Vec<AuditRecord>;
        /// Whether the record of it is whole.
        AuditVerify = "/v1/audit/verify" by Admin (AuditVerifyRequest) -> AuditVerdict, within 300;
        /// Runs of a project's workflows, the newest first.
        Runs = "/v1/ci/runs" by Viewer (RunsQuery) -> Vec<RunSummary>;
        /// A run in full.
        RunShow = "/v1/ci/run" by Viewer (RunQuery) -> RunReport;
        /// Cancels a run.
        RunCancel = "/v1/ci/cancel" by Deployer (RunCancelRequest) -> RunCancelOutcome;
        /// Runs jobs of a run again.
        RunRerun = "/v1/ci/rerun" by Deployer (RunRerunRequest) -> RunRerunOutcome;
        /// Starts a workflow.
        RunDispatch = "/v1/ci/dispatch" by Deployer (RunDispatchRequest) -> RunBegun, within 120;
        /// Tells workflows of something that happened elsewhere; what began of it.
        RunEvent = "/v1/ci/event" by Deployer (RunEventRequest) -> Vec<RunBegun>, within 120;
        /// Removes the logs of a run that has ended.
        RunLogsRemove = "/v1/ci/logs/remove" by Admin (RunQuery) -> Empty;
        /// Caches of a project's jobs, and which went.
        Caches = "/v1/ci/caches" by Viewer (CachesQuery) -> CachesReport;
        /// Removes one.
        CacheRemove = "/v1/ci/caches/remove" by Deployer (CacheRemoveRequest) -> Empty;
        /// Artifacts of a run, the oldest first.
        Artifacts = "/v1/ci/artifacts" by Viewer (RunQuery) -> Vec<ArtifactInfo>;
        /// Where identity tokens of jobs are from, and by what keys.
        IdentityShow = "/v1/ci/identity" by Viewer (Empty) -> IdentityIssuer;
        /// Has another key sign them; no other one is believed any more.
        IdentityRotate = "/v1/ci/identity/rotate" by Admin (MachineQuery) -> IdentityIssuer;
        /// Variables that workflows of a project read.
        Vars = "/v1/vars" by Viewer (VarsQuery) -> Vec<VarInfo>;
        /// Gives some of them values.
        VarsSet = "/v1/vars/set" by Deployer (VarsSetRequest) -> VarsSetOutcome, takes MAX_VALUE_BYTES;
        /// Removes some.
        VarsRemove = "/v1/vars/remove" by Deployer (VarsRemoveRequest) -> Empty;
        /// Mirrors of repositories, by project.
        Mirrors = "/v1/git/mirrors" by Viewer (MirrorsQuery) -> Vec<MirrorInfo>;
        /// Sets one.
        MirrorSet = "/v1/git/mirrors/set" by Admin (MirrorSetRequest) -> MirrorSetOutcome;
        /// How the other side says that something was pushed there.
        MirrorHookShow = "/v1/git/mirrors/hook" by Admin (MirrorQuery) -> MirrorHook;
        /// Has one fetched or pushed now.
        MirrorRun = "/v1/git/mirrors/run" by Deployer (MirrorQuery) -> MirrorInfo;
        /// Removes one; the repository stays.
        MirrorRemove = "/v1/git/mirrors/remove" by Admin (MirrorQuery) -> Empty;
        /// Ends the daemon and the edge.
        Shutdown = "/v1/shutdown" by Admin (ShutdownRequest) -> Empty, within 60;
    }
    operations {
        /// Brings an environment to what its project says.
        Up = "/v1/up" by Deployer (UpRequest) -> UpOutcome, takes MAX_DOCUMENT_BYTES;
        /// Takes an environment down.
        Down = "/v1/down" by Deployer (DownRequest) -> DownOutcome;
        /// Replaces replicas by new ones of the same release.
        Restart = "/v1/restart" by Deployer (RestartRequest) -> ChangeOutcome;
        /// Goes back to an earlier release.
        Rollback = "/v1/rollback" by Deployer (RollbackRequest) -> UpOutcome;
        /// Carries a rotation on by a step after which what runs has another version of its secret.
        SecretSwitch = "/v1/secret/switch" by Admin (SecretStepRequest) -> SecretSwitchOutcome;
        /// Changes the number of replicas.
        Scale = "/v1/scale" by Deployer (ScaleRequest) -> ChangeOutcome;
    }
    feeds {
        /// Output of replicas, the oldest first.
        Logs = "/v1/logs" by Viewer (LogQuery) -> LogLine;
        /// The audit trail with its chain, the oldest first.
        AuditExport = "/v1/audit/export" by Admin (AuditExportQuery) -> AuditLine;
        /// What the legs of a run tell.
        RunLog = "/v1/ci/logs" by Viewer (RunLogQuery) -> RunLogItem;
        /// An artifact, part by part.
        ArtifactGet = "/v1/ci/artifacts/get" by Viewer (ArtifactQuery) -> ArtifactPart;
    }
}

/// Stops a running operation.
#[derive(Clone, Copy, Debug)]
pub struct Cancel;

impl Call for Cancel {
    const PATH: &'static str = "/v1/cancel";
    const ROLE: Option<Role> = Some(Role::Deployer);
    type Request = CancelRequest;
    type Answer = Empty;
}
