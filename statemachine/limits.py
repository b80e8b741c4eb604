"""Every limit of the replicated state, with its reason. Relations between them are asserted at the end."""

# Requests (API.md section 1).
REQUEST_BYTES_MAX = 1 << 20
BATCH_REQUEST_BYTES_MAX = 4 << 20
BATCH_ITEMS_MAX = 1_000
PAYLOAD_BYTES_MAX = 256 << 10
CHECKPOINT_BYTES_MAX = 64 << 10
METADATA_BYTES_MAX = 16 << 10
REPLY_BYTES_MAX = 4 << 20
LIST_LIMIT_MAX = 1_000
LIST_LIMIT_DEFAULT = 100

# Names and texts. LMDB allows keys of 511 bytes; 200 leaves room for prefixes and sequence numbers.
KEY_BYTES_MAX = 200
ID_BYTES_MAX = 128
TITLE_BYTES_MAX = 1_024
DESCRIPTION_BYTES_MAX = 64 << 10
MESSAGE_BYTES_MAX = 4_096
LABELS_MAX = 64
LABEL_BYTES_MAX = 256

# Events. Types are counted per session one by one up to a number: the record is rewritten by every append.
EVENT_TYPE_BYTES_MAX = 128
EVENT_TYPES_COUNTED_MAX = 64
USAGE_MAX = 10**12
SUM_MAX = 2**63 - 1

# Projects. Each keeps a record of counts and a share of every purge; more than this is a loop that invents
# names.
PROJECTS_MAX = 100_000

# Log entries. An entry is one fsync and one LMDB transaction, so its size bounds how long both can take;
# it must stay below the engine's batch size (cluster.settings asserts that).
ENTRY_COMMANDS_MAX = 1_000
ENTRY_BYTES_MAX = 8 << 20

# What one command may do beside its own effect; the rest is left in a work row (DESIGN.md: apply is
# bounded).
SIDE_EFFECTS_MAX = 256

# Tasks.
DEPENDENCIES_MAX = 1_000
REQUIRES_MAX = 32
PRIORITY_MAX = 9
PRIORITY_DEFAULT = 5
MAX_ATTEMPTS_MAX = 1_000
LEASE_MS_MIN = 1_000
LEASE_MS_MAX = 24 * 3_600_000
DURATION_MS_MAX = 366 * 24 * 3_600_000
HISTORY_TRANSITIONS_MAX = 20
FOLLOW_UPS_MAX = 128
# All dependencies of one command together: each is a look-up and a write, 10,000 of them some 50 ms of apply.
COMMAND_DEPENDENCIES_MAX = 10_000
# A body over this size lives in a row of its own, so that a change of state does not rewrite it.
TASK_BODY_INLINE_BYTES_MAX = 1_024
# Verbs an agent may repeat and be told again that it won; a repeat comes soon or never.
TASK_WINS_MAX = 8
GROUP_FAILED_IDS_MAX = 100
# What a wait tells is in the record; answers lie beside it, and travel whole with each grant.
WAIT_OPTIONS_MAX = 100
WAIT_OPTIONS_BYTES_MAX = 16 << 10
RESUME_DATA_BYTES_MAX = 64 << 10
RESUMES_KEPT_MAX = 16
RESUMES_BYTES_MAX = 256 << 10
# Locks on paths. A directory's worth of a pattern is part of a key; each wildcard is a state to be walked through. Held
# ones are compared with those of each task that is granted, in so many steps of some microseconds (`globs.steps`): one
# task with patterns of everything may look at all twice, one with patterns that are slow to compare at some hundreds.
LOCKS_MAX = 32
LOCK_PATH_BYTES_MAX = 256
LOCK_SEGMENTS_MAX = 32
LOCK_WILDCARDS_MAX = 16
LOCKS_HELD_MAX = 10_000
LOCK_COMPARISONS_MAX = 20_000
RETRY_LIMIT_MAX = 1_000_000
RETRY_RATE_MAX = 100_000
# Tasks and sessions that were removed, counted apart: who is still about one of them, and has not heard of it for so
# long, is gone for good.
FORMER_ID_KEPT_MS = 24 * 3_600_000
FORMER_IDS_MAX = 1_000_000
FORMER_IDS_FORGOTTEN_PER_REMOVAL = 2

# Schedules. Runs behind one another, and missed runs that are made up for, are as many as a glance can take in: what
# is further behind does not keep up. The id leaves room for the time of the run in the task's id.
SCHEDULES_MAX = 10_000
SCHEDULE_ID_BYTES_MAX = 100
SCHEDULE_TASK_BYTES_MAX = 64 << 10
SCHEDULE_EVERY_MS_MIN = 1_000
SCHEDULE_OPEN_RUNS_MAX = 100
SCHEDULE_MADE_UP_RUNS_MAX = 100
CRON_CHARACTERS_MAX = 256
# How late a run may begin that is not to be made up for: longer than any change of leader takes.
SCHEDULE_ON_TIME_MS = 60_000

# Queues.
QUEUE_MAX_RUNNING_MAX = 1_000_000
QUEUE_RATE_MILLI_MAX = 100_000_000
# Those that hold a key are looked at with each grant of another.
MAX_RUNNING_PER_KEY_MAX = 1_000

# Budgets, in tokens or micro-dollars: a thousand times what one report may say, and exact in any JSON. What is spent is
# counted no further than numbers can hold.
BUDGETS_MAX = 100_000
BUDGET_MAX = 10**15
BUDGET_SUM_MAX = 2**62

# Agents.
CAPABILITIES_MAX = 128
MAX_CONCURRENT_MAX = 1_000
# What an agent learned is rewritten with every task it ends; one task may require all of these.
LEARNED_MAX = 32

# Idempotency (API.md section 1).
IDEMPOTENCY_TTL_MS = 24 * 3_600_000
IDEMPOTENCY_RECORDS_MAX = 1_000_000
IDEMPOTENCY_PURGED_PER_COMMAND = 2
# A UUIDv7 key from further in the future is a wrong clock: dropping it early would move the horizon past
# honest keys.
IDEMPOTENCY_UUID7_AHEAD_MS_MAX = 300_000

# Members. Every one costs its leader a connection and a copy of the log; an election asks all voters. Removed
# ones are remembered for ever.
MEMBERS_MAX = 32
MEMBERS_REMOVED_MAX = 10_000
ADDRESS_BYTES_MAX = 300

# Change feed: revisions kept for watchers; older ones are compacted, a few per entry.
CHANGES_KEPT_MAX = 1_000_000
CHANGES_PURGED_PER_ENTRY = 4

if not PAYLOAD_BYTES_MAX < REQUEST_BYTES_MAX <= BATCH_REQUEST_BYTES_MAX < ENTRY_BYTES_MAX:
    raise AssertionError("an entry must hold the largest request, and a request the largest payload")
if ENTRY_COMMANDS_MAX < BATCH_ITEMS_MAX:
    raise AssertionError("an entry must hold the largest batch")
if SCHEDULE_ID_BYTES_MAX + 28 > ID_BYTES_MAX:
    raise AssertionError("the id of a run must hold the schedule's and a number of 19 digits")
if REQUIRES_MAX > LEARNED_MAX:
    raise AssertionError("what one task requires must fit into what an agent learned")
if ID_BYTES_MAX + 40 > KEY_BYTES_MAX:
    raise AssertionError("a key must hold the longest id and its prefix")
