------------------------------ MODULE Replication ------------------------------
(******************************************************************************)
(* The replicated log of one topic: a chain of segments, each with one writer *)
(* for life, ended by a planned roll or by a seal.                            *)
(*                                                                            *)
(* `meta`, `registered` and `void` are the metadata that Raft agrees on: one  *)
(* authoritative copy, changed only by compare-and-set commands.  Data never  *)
(* passes through it.  A node may act on it as late as it likes: whatever a   *)
(* node does about the metadata is an action of its own.                      *)
(*                                                                            *)
(* Nothing that was ever put on the wire is removed from the model, and       *)
(* nothing has to be received: messages may be lost, late, reordered and      *)
(* duplicated.                                                                *)
(*                                                                            *)
(* `Mutations` makes the protocol wrong on purpose, one known mistake each;   *)
(* the empty set is the protocol.  See Properties.tla for what must hold, and *)
(* README.md for the code that each action stands for.                        *)
(******************************************************************************)
EXTENDS Integers, FiniteSets, Sequences, TLC

CONSTANTS
  Nodes,          \* the replicas of every segment
  MaxRecords,     \* records that producers send
  MaxSegments,    \* segment ids that may be used
  MaxEpoch,       \* the topic epoch's highest value
  NeedlessEpoch,  \* seals without a reason are begun only below this epoch
  MaxCrashes,     \* power losses
  MaxLosses,      \* disks lost for good
  MaxReads,       \* records that the consumer reads
  Mutations       \* mistakes, by name

VARIABLES
  \* The metadata.
  meta,           \* [epoch, segments]; sid is the index into segments, never used twice
  registered,     \* node -> incarnation of its last RegisterBroker
  void,           \* node -> sid -> 0, or the topic epoch at which it stopped vouching
  \* The disks.
  log,            \* node -> sid -> records, as written
  durable,        \* node -> sid -> how many of them a power loss leaves
  promise,        \* node -> sid -> highest seal epoch promised; Final once closed
  \* The wire.
  frames,         \* records that writers have sent: <<sid, index, record>>
  told,           \* sid -> node -> highest durable end ever acknowledged to the writer
  answers,        \* definite answers to SEAL: <<epoch, node, end>>
  rolls,          \* CommitRoll commands that may still be applied: <<sid, end>>
  \* The processes.
  up,             \* node -> is it running?
  writer,         \* node -> its Writer: [sid, phase, hw]
  attempt,        \* seal epoch -> the recoverer's state: [sid, end]
  \* History: it decides nothing, the properties are about it.
  acked,          \* records acknowledged with acks=all: <<sid, index, record>>
  delivered,      \* what the consumer has read, from offset 0 on
  authors,        \* who has ever given out offsets: <<sid, node, incarnation>>
  \* Budgets.
  records, crashes, losses,
  swapped         \* nodes with a new disk that they have not registered yet

metadata  == <<meta, registered, void>>
disks     == <<log, durable, promise>>
wire      == <<frames, told, answers, rolls>>
processes == <<up, writer, attempt>>
history   == <<acked, delivered, authors>>
faults    == <<crashes, losses, swapped>>
vars      == <<metadata, disks, wire, processes, history, faults, records>>

Mutated(mistake) == mistake \in Mutations

Sids    == 1..MaxSegments
Epochs  == 1..MaxEpoch
Final   == MaxEpoch + 1     \* above every epoch: a closed copy accepts nothing for ever
Unknown == -1               \* the end of an attempt that has not chosen one

Max(S) == CHOOSE x \in S : \A y \in S : y <= x
Min(S) == CHOOSE x \in S : \A y \in S : x <= y
Larger(a, b) == IF a >= b THEN a ELSE b
Smaller(a, b) == IF a <= b THEN a ELSE b

\* The arithmetic of copies: any SealQuorum replicas meet any AckQuorum replicas.
AckQuorum  == Cardinality(Nodes) \div 2 + 1
SealQuorum == IF Mutated("SealOnOneAnswer") THEN 1 ELSE Cardinality(Nodes) - AckQuorum + 1

Last       == Len(meta.segments)
Segment(s) == meta.segments[s]
IsClosed(s) == Segment(s).state \in {"sealed", "replaced"}
NoWriter   == [sid |-> 0, phase |-> "none", hw |-> 0]

\* How much of a segment is durable on an ack quorum, going by what the writer was told.
Committed(s, ends) ==
  LET quorum == IF Mutated("AckOnOneCopy") THEN 1 ELSE AckQuorum IN
  Max({k \in 0..MaxRecords : Cardinality({n \in Nodes : ends[n] >= k}) >= quorum})

Opened(w, incarnation, epoch, base) ==
  [state |-> "open", writer |-> w, incarnation |-> incarnation, epoch |-> epoch, base |-> base,
   end |-> 0, sealEpoch |-> 0, sealedBy |-> 0, lossesBefore |-> 0]

Init ==
  /\ \E w \in Nodes : meta = [epoch |-> 1, segments |-> <<Opened(w, 1, 1, 0)>>]
  /\ registered = [n \in Nodes |-> 1]
  /\ void = [n \in Nodes |-> [s \in Sids |-> 0]]
  /\ log = [n \in Nodes |-> [s \in Sids |-> <<>>]]
  /\ durable = [n \in Nodes |-> [s \in Sids |-> 0]]
  /\ promise = [n \in Nodes |-> [s \in Sids |-> 0]]
  /\ frames = {} /\ answers = {} /\ rolls = {}
  /\ told = [s \in Sids |-> [n \in Nodes |-> 0]]
  /\ up = [n \in Nodes |-> TRUE]
  /\ writer = [n \in Nodes |-> NoWriter]
  /\ attempt = [e \in Epochs |-> [sid |-> 0, end |-> Unknown]]
  /\ acked = {} /\ delivered = <<>> /\ authors = {}
  /\ records = 0 /\ crashes = 0 /\ losses = 0 /\ swapped = {}

--------------------------------------------------------------------------------
(* The append path. *)

\* The metadata names this very process as the writer.  The view may be stale, the segment
\* sealed long ago: that is what promises are for.
BecomeWriter(n, s) ==
  /\ up[n] /\ s <= Last /\ writer[n].sid < s
  /\ Segment(s).writer = n
  /\ Segment(s).incarnation = registered[n] \/ Mutated("ResumeAfterRestart")
  /\ promise[n][s] # Final
  /\ writer' = [writer EXCEPT ![n] = [sid |-> s, phase |-> "open", hw |-> 0]]
  /\ UNCHANGED <<metadata, disks, wire, up, attempt, history, faults, records>>

\* A batch gets the next offset, goes to the local log (not yet synced) and to the followers.
\* A deposed writer does not know that it is one; only its own copy's promise stops it.
Append1(n) ==
  LET s == writer[n].sid
      i == Len(log[n][s]) + 1
      record == records + 1
  IN
  /\ up[n] /\ writer[n].phase = "open" /\ records < MaxRecords
  /\ promise[n][s] = 0 \/ Mutated("NoFence")
  /\ records' = record
  /\ log' = [log EXCEPT ![n][s] = Append(@, record)]
  /\ frames' = frames \cup {<<s, i, record>>}
  /\ authors' = authors \cup {<<s, n, registered[n]>>}
  /\ UNCHANGED <<metadata, durable, promise, told, answers, rolls, processes, acked, delivered,
                 faults>>

\* A copy on a new disk may have forgotten a promise.  It takes from the writer, and tells it
\* anything, only if the segment was still open (in the epoch of its writer) when the disk was
\* registered: before that, no promise was asked for.
Follows(n, s) ==
  s <= Last => void[n][s] \in {0, Segment(s).epoch} \/ Mutated("VoidCopyFollows")

\* The writer hears that a copy is durable up to `end`.
Heard(n, s, end) == IF Follows(n, s) THEN [told EXCEPT ![s][n] = Larger(@, end)] ELSE told

\* A frame reaches a replica.  It is taken only at the end of a copy that has promised nothing.
Receive(n, frame) ==
  LET s == frame[1]
      end == Len(log[n][s])
  IN
  /\ up[n] /\ Segment(s).writer # n
  /\ promise[n][s] = 0 \/ Mutated("NoFence")
  /\ Follows(n, s)
  /\ frame[2] = end + 1 \/ (Mutated("AcceptGap") /\ frame[2] > end)
  /\ log' = [log EXCEPT ![n][s] = Append(@, frame[3])]
  /\ told' = IF Mutated("AckBeforeSync") THEN [told EXCEPT ![s][n] = Larger(@, end + 1)] ELSE told
  /\ UNCHANGED <<metadata, durable, promise, frames, answers, rolls, processes, history, faults,
                 records>>

\* A sync, of a follower or of the writer itself; then, and only then, the cumulative ACK leaves.
Sync(n, s) ==
  LET end == Len(log[n][s]) IN
  /\ up[n] /\ durable[n][s] < end
  /\ durable' = [durable EXCEPT ![n][s] = end]
  /\ told' = Heard(n, s, end)
  /\ UNCHANGED <<metadata, log, promise, frames, answers, rolls, processes, history, faults,
                 records>>

\* The ACKs that have come by now move the high watermark; what is below it is acknowledged and
\* may be read.  One step stands for any number of ACKs: only the mark that they add up to counts.
AdvanceHighWatermark(n) ==
  LET s == writer[n].sid
      own == IF Mutated("CountUnsynced") THEN [told[s] EXCEPT ![n] = Len(log[n][s])] ELSE told[s]
      hw == Smaller(Committed(s, own), Len(log[n][s]))
  IN
  /\ up[n] /\ s # 0 /\ hw > writer[n].hw
  /\ writer' = [writer EXCEPT ![n].hw = hw]
  /\ acked' = acked \cup {<<s, i, log[n][s][i]>> : i \in 1..hw}
  /\ UNCHANGED <<metadata, disks, wire, up, attempt, delivered, authors, faults, records>>

--------------------------------------------------------------------------------
(* A planned roll: drain, then one compare-and-set. *)

\* Everything that was appended is committed, or nothing was appended.  From the proposal on nothing
\* is appended any more.
ProposeRoll(n) ==
  LET s == writer[n].sid
      end == Len(log[n][s])
  IN
  /\ up[n] /\ writer[n].phase = "open" /\ Last < MaxSegments
  /\ writer[n].hw = end \/ Mutated("RollWithoutDraining")
  /\ writer' = [writer EXCEPT ![n].phase = "proposed"]
  /\ rolls' = rolls \cup {<<s, end>>}
  /\ UNCHANGED <<metadata, disks, frames, told, answers, up, attempt, history, faults, records>>

\* The writer learns that its command was refused and never will be applied (an unknown outcome
\* is first made a known one): it goes on, maybe as a deposed writer.
RollRefused(n) ==
  LET s == writer[n].sid IN
  /\ up[n] /\ writer[n].phase = "proposed"
  /\ ~(IsClosed(s) /\ Segment(s).sealedBy = 0)
  /\ writer' = [writer EXCEPT ![n].phase = "open"]
  /\ rolls' = IF Mutated("ResumeOnTimeout") THEN rolls ELSE {roll \in rolls : roll[1] # s}
  /\ UNCHANGED <<metadata, disks, frames, told, answers, up, attempt, history, faults, records>>

\* The incarnation that a command names for the next writer: it may be older than the registered
\* one, which only the compare-and-set finds out.
NextIncarnations(w) == IF Mutated("StaleNextWriter") THEN 1..registered[w] ELSE {registered[w]}

\* The nodes that say that they have all of a segment on disk.
Holders(s, end) ==
  {n \in Nodes : (IF Mutated("AnswerUnsynced") THEN Len(log[n][s]) ELSE durable[n][s]) >= end}

\* Disks that are gone and still registered: nobody knows it yet, and what they said counts.  With
\* the mistake it counts for the disk that replaced them, too.
Lost == IF Mutated("HoldersByNewDisk") THEN Nodes ELSE swapped

\* Close the last segment at `end` and open the next; one that ends empty leaves but its number.
Succeed(s, end, epoch, sealedBy, w, incarnation) ==
  meta' = [epoch |-> epoch,
           segments |-> Append(
             [meta.segments EXCEPT ![s].state = IF end = 0 THEN "replaced" ELSE "sealed",
                                   ![s].end = end, ![s].sealedBy = sealedBy,
                                   ![s].lossesBefore = losses - Cardinality(swapped)],
             Opened(w, incarnation, epoch, Segment(s).base + end))]

\* The command takes effect.  It stays on the wire: a duplicate must not matter.
ApplyRoll(roll, w) ==
  LET s == IF Mutated("RollWithoutCas") THEN Last ELSE roll[1]
      end == roll[2]
  IN
  /\ s = Last /\ Segment(s).state = "open"
  /\ Last < MaxSegments /\ meta.epoch < MaxEpoch /\ up[w]
  /\ \/ Cardinality(Holders(s, end) \cup {n \in Lost : told[s][n] >= end}) >= AckQuorum
     \/ Mutated("RollWithoutDraining") \/ Mutated("RollWithoutCas")
  /\ \E incarnation \in NextIncarnations(w) :
       Succeed(s, end, meta.epoch + 1, 0, w, incarnation)
  /\ UNCHANGED <<registered, void, disks, wire, processes, history, faults, records>>

--------------------------------------------------------------------------------
(* A seal: promise, longest answer, repair, compare-and-set. *)

WriterIsGone == LET w == Segment(Last).writer IN
                ~up[w] \/ registered[w] # Segment(Last).incarnation

\* Somebody believes that the writer is gone, or that the last recoverer is; it may be wrong.
BeginSeal ==
  /\ Last < MaxSegments /\ meta.epoch < MaxEpoch
  /\ \/ Segment(Last).state = "open" /\ WriterIsGone /\ ~Mutated("NobodySeals")
     \/ ~IsClosed(Last) /\ meta.epoch < NeedlessEpoch
  /\ LET e == meta.epoch + 1 IN
     /\ meta' = [meta EXCEPT !.epoch = e, !.segments[Last].state = "sealing",
                             !.segments[Last].sealEpoch = e]
     /\ attempt' = [attempt EXCEPT ![e].sid = Last]
  /\ UNCHANGED <<registered, void, disks, wire, up, writer, history, faults, records>>

\* May this copy give a definite answer?  Its own node decides, by metadata at least as new as its
\* registration; the recoverer's view may be older than that.
Vouches(n, s, e) ==
  \/ void[n][s] = 0
  \/ Mutated("EmptyDiskAnswers")
  \/ (Mutated("VoidSeenByRecovererOnly") /\ void[n][s] >= e)

\* SEAL reaches a replica: accept no more, sync the log, make the promise durable, answer the end.
\* One step.  An UNKNOWN answer is the promise alone.
Promise(n, e) ==
  LET s == attempt[e].sid
      end == Len(log[n][s])
  IN
  /\ up[n] /\ s # 0 /\ ~IsClosed(s)
  /\ promise[n][s] < e \/ (Mutated("PromiseLowered") /\ promise[n][s] \notin {e, Final})
  /\ promise' = [promise EXCEPT ![n][s] = e]
  /\ IF Mutated("AnswerUnsynced")
       THEN UNCHANGED <<durable, told>>
       ELSE /\ durable' = [durable EXCEPT ![n][s] = end]
            /\ told' = Heard(n, s, end)
  /\ answers' = IF Vouches(n, s, e) THEN answers \cup {<<e, n, end>>} ELSE answers
  /\ UNCHANGED <<metadata, log, frames, rolls, processes, history, faults, records>>

\* Enough definite answers: the longest wins.
ChooseEnd(e) ==
  /\ attempt[e].sid # 0 /\ attempt[e].end = Unknown /\ ~IsClosed(attempt[e].sid)
  /\ \E Q \in SUBSET {answer \in answers : answer[1] = e} :
       /\ Cardinality(Q) = SealQuorum
       /\ LET ends == {answer[3] : answer \in Q} IN
          attempt' = [attempt EXCEPT ![e].end =
                        IF Mutated("ShortestAnswer") THEN Min(ends) ELSE Max(ends)]
  /\ UNCHANGED <<metadata, disks, wire, up, writer, history, faults, records>>

\* What a copy lacks below `end`, from a copy that has it.
Extended(n, source, s, end) == log[n][s] \o SubSeq(log[source][s], Len(log[n][s]) + 1, end)

\* Tail repair, from any copy that has enough, to a replica that is promised to this very attempt
\* and no later one.  The writer may be told of what is durable now, as after any sync.
Repair(n, source, e) ==
  LET s == attempt[e].sid
      end == attempt[e].end
  IN
  /\ up[n] /\ up[source] /\ s # 0 /\ ~IsClosed(s)
  /\ promise[n][s] = e \/ (Mutated("RepairAfterPromise") /\ promise[n][s] \in e..MaxEpoch)
  /\ durable[n][s] < end /\ end <= Len(log[source][s])
  /\ log' = [log EXCEPT ![n][s] = Extended(n, source, s, end)]
  /\ durable' = [durable EXCEPT ![n][s] = end]
  /\ told' = Heard(n, s, end)
  /\ UNCHANGED <<metadata, promise, frames, answers, rolls, processes, history, faults, records>>

\* A mistake that is no step of the protocol: a replica believes an end that is not committed.
TruncateToChosen(n, e) ==
  LET s == attempt[e].sid
      end == attempt[e].end
  IN
  /\ Mutated("TruncateToChosen")
  /\ up[n] /\ s # 0 /\ end # Unknown /\ promise[n][s] = e /\ Len(log[n][s]) > end
  /\ log' = [log EXCEPT ![n][s] = SubSeq(@, 1, end)]
  /\ durable' = [durable EXCEPT ![n][s] = end]
  /\ UNCHANGED <<metadata, promise, wire, processes, history, faults, records>>

\* Who has it on disk and is promised to this attempt, or has answered it and is lost.
Vouched(s, e, end) ==
  {n \in Holders(s, end) : promise[n][s] >= e}
    \cup {n \in Lost : \E k \in end..MaxRecords : <<e, n, k>> \in answers}

\* The one place where an end becomes a fact.  Its holders are named with the disks that they had
\* when they were asked; a holder on another disk by now has the command refused.
CommitSeal(e, w) ==
  LET s == attempt[e].sid
      end == attempt[e].end
  IN
  /\ end # Unknown /\ s = Last /\ Segment(s).state = "sealing"
  /\ Segment(s).sealEpoch = e \/ Mutated("CommitSealWithoutCas")
  /\ \/ Cardinality(Vouched(s, e, end)) >= AckQuorum
     \/ end = 0 \/ Mutated("CommitWithoutRepair")
  /\ Last < MaxSegments /\ up[w]
  /\ \E incarnation \in NextIncarnations(w) : Succeed(s, end, meta.epoch, e, w, incarnation)
  /\ UNCHANGED <<registered, void, disks, wire, processes, history, faults, records>>

--------------------------------------------------------------------------------
(* What the end of a segment asks of the copies. *)

\* A writer whose segment this is learns that it is deposed.  It never comes back to it.
Deposed(n, s) == IF writer[n].sid = s THEN [writer EXCEPT ![n].phase = "closed", ![n].hw = 0]
                                      ELSE writer

\* A node learns that the segment has ended, and that it holds all of it: what is beyond the end
\* is cut (all of it, when the segment was replaced).
Close(n, s) ==
  LET end == Segment(s).end
      forgets == Segment(s).state = "replaced" /\ Mutated("ForgetDropped")
  IN
  /\ up[n] /\ IsClosed(s) /\ promise[n][s] # Final /\ Len(log[n][s]) >= end
  /\ log' = [log EXCEPT ![n][s] = SubSeq(@, 1, end)]
  /\ durable' = [durable EXCEPT ![n][s] = end]
  /\ promise' = [promise EXCEPT ![n][s] = IF forgets THEN 0 ELSE Final]
  /\ writer' = Deposed(n, s)
  /\ UNCHANGED <<metadata, wire, up, attempt, history, faults, records>>

\* The same for a copy that is too short: the rest comes from a node that holds all of it.  This
\* is also how a lost disk gets its sealed segments back.
FetchSealed(n, source, s) ==
  LET end == Segment(s).end IN
  /\ up[n] /\ up[source] /\ IsClosed(s)
  /\ Len(log[n][s]) < end /\ end <= durable[source][s]
  /\ log' = [log EXCEPT ![n][s] = Extended(n, source, s, end)]
  /\ durable' = [durable EXCEPT ![n][s] = end]
  /\ promise' = [promise EXCEPT ![n][s] = Final]
  /\ writer' = Deposed(n, s)
  /\ UNCHANGED <<metadata, wire, up, attempt, history, faults, records>>

--------------------------------------------------------------------------------
(* The consumer.  It reads in the order of offsets, from whoever may serve the next one. *)

Told(s) == Max({0} \cup {record[2] : record \in {r \in acked : r[1] = s}})

\* The leader (who may be deposed) serves below its high watermark; a follower what it has made
\* durable, below a high watermark that it was told; any copy serves a sealed segment.
MayServe(n, s, i) ==
  /\ up[n] /\ i <= Len(log[n][s])
  /\ \/ writer[n].sid = s /\ (i <= writer[n].hw \/ Mutated("ServeUncommitted"))
     \/ i <= durable[n][s] /\ i <= Told(s)
     \/ /\ Segment(s).state = "sealed" /\ i <= durable[n][s]
        /\ i <= Segment(s).end \/ Mutated("ServeBeyondEnd")

OffsetOf(s, i) == Segment(s).base + i - 1

Readable ==
  {<<OffsetOf(at[2], at[3]), log[at[1]][at[2]][at[3]]>> :
     at \in {at \in Nodes \X (1..Last) \X (1..MaxRecords) : MayServe(at[1], at[2], at[3])}}

Read ==
  /\ Len(delivered) < MaxReads
  /\ \E read \in Readable : /\ read[1] = Len(delivered)
                            /\ delivered' = Append(delivered, read[2])
  /\ UNCHANGED <<metadata, disks, wire, processes, acked, authors, faults, records>>

--------------------------------------------------------------------------------
(* Faults. *)

\* Power loss: of what was not synced, any part may go (a torn record is cut by its checksum).
Crash(n) ==
  /\ up[n] /\ crashes < MaxCrashes
  /\ crashes' = crashes + 1
  /\ up' = [up EXCEPT ![n] = FALSE]
  /\ writer' = [writer EXCEPT ![n] = NoWriter]
  /\ \E kept \in 0..MaxRecords :
       /\ kept <= Max({Len(log[n][s]) - durable[n][s] : s \in Sids})
       /\ log' = [log EXCEPT ![n] = [s \in Sids |->
                    SubSeq(log[n][s], 1, Smaller(Len(log[n][s]), durable[n][s] + kept))]]
  /\ promise' = IF Mutated("PromiseNotSynced")
                  THEN [promise EXCEPT ![n] = [s \in Sids |-> 0]] ELSE promise
  /\ UNCHANGED <<metadata, durable, wire, attempt, history, losses, swapped, records>>

\* The disk is gone for good, and everything on it.
LoseDisk(n) ==
  /\ losses < MaxLosses
  /\ losses' = losses + 1
  /\ up' = [up EXCEPT ![n] = FALSE]
  /\ swapped' = swapped \cup {n}
  /\ writer' = [writer EXCEPT ![n] = NoWriter]
  /\ log' = [log EXCEPT ![n] = [s \in Sids |-> <<>>]]
  /\ durable' = [durable EXCEPT ![n] = [s \in Sids |-> 0]]
  /\ promise' = [promise EXCEPT ![n] = [s \in Sids |-> 0]]
  /\ UNCHANGED <<metadata, wire, attempt, history, crashes, records>>

\* A process starts: it reads its logs back, syncs what it finds, registers, and follows from that
\* end on, which tells the writer.  A new disk makes the node void for the segment that has not
\* ended; it knows of the ended ones, so it accepts nothing for those either, although it has
\* forgotten its promises.
Restart(n) ==
  /\ ~up[n]
  /\ up' = [up EXCEPT ![n] = TRUE]
  /\ registered' = [registered EXCEPT ![n] = @ + 1]
  /\ swapped' = swapped \ {n}
  /\ IF n \in swapped
       THEN /\ void' = [void EXCEPT ![n][Last] = IF @ = 0 THEN meta.epoch ELSE @]
            /\ promise' = [promise EXCEPT ![n] = [s \in Sids |->
                             IF s <= Last /\ IsClosed(s) THEN Final ELSE 0]]
       ELSE UNCHANGED <<void, promise>>
  /\ IF Mutated("TruncateToHighWatermark")
       THEN \* To some high watermark that it was told before it stopped.
            \E hw \in 0..MaxRecords :
              /\ log' = [log EXCEPT ![n][Last] = SubSeq(@, 1, Smaller(hw, Len(@)))]
              /\ durable' = [durable EXCEPT ![n][Last] = Len(log'[n][Last])]
       ELSE /\ durable' = [durable EXCEPT ![n] = [s \in Sids |-> Len(log[n][s])]]
            /\ UNCHANGED log
  /\ told' = [s \in Sids |->
               IF Follows(n, s) THEN [told[s] EXCEPT ![n] = Larger(@, durable'[n][s])] ELSE told[s]]
  /\ UNCHANGED <<meta, frames, answers, rolls, writer, attempt, history, crashes, losses, records>>

--------------------------------------------------------------------------------
Next ==
  \/ \E n \in Nodes : \/ Append1(n) \/ AdvanceHighWatermark(n)
                      \/ ProposeRoll(n) \/ RollRefused(n)
                      \/ Crash(n) \/ LoseDisk(n) \/ Restart(n)
  \/ \E n \in Nodes, s \in Sids : BecomeWriter(n, s) \/ Sync(n, s)
  \/ \E n \in Nodes, frame \in frames : Receive(n, frame)
  \/ \E roll \in rolls, w \in Nodes : ApplyRoll(roll, w)
  \/ BeginSeal
  \/ \E e \in Epochs : \/ ChooseEnd(e)
                       \/ \E n \in Nodes : \/ Promise(n, e) \/ TruncateToChosen(n, e)
                                           \/ CommitSeal(e, n)
                       \/ \E n, source \in Nodes : Repair(n, source, e)
  \/ \E s \in 1..Last, n \in Nodes : \/ Close(n, s)
                                     \/ \E source \in Nodes : FetchSealed(n, source, s)
  \/ Read

Spec == Init /\ [][Next]_vars
================================================================================
