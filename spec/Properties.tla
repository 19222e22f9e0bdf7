------------------------------- MODULE Properties -------------------------------
(******************************************************************************)
(* What must hold of Replication.tla.  Three kinds: invariants (of a state),  *)
(* steps (of two states in a row, written [][...]_vars), and progress.        *)
(******************************************************************************)
EXTENDS Replication

Symmetry == Permutations(Nodes)

TypeOK ==
  /\ meta.epoch \in Epochs /\ Last \in Sids
  /\ \A s \in 1..Last : /\ Segment(s).state \in {"open", "sealing", "sealed", "replaced"}
                        /\ Segment(s).writer \in Nodes
                        /\ Segment(s).end \in 0..MaxRecords
  /\ \A n \in Nodes, s \in Sids : /\ durable[n][s] \in 0..Len(log[n][s])
                                  /\ promise[n][s] \in 0..Final
                                  /\ void[n][s] \in 0..MaxEpoch
                                  /\ told[s][n] \in 0..MaxRecords
  /\ \A n \in Nodes : /\ writer[n].sid \in 0..Last
                      /\ writer[n].phase \in {"none", "open", "proposed", "closed"}
  /\ records \in 0..MaxRecords

--------------------------------------------------------------------------------
(* The chain. *)

\* Every segment that anything speaks of is one that the metadata has opened, epochs grow along
\* the chain, and no writer is from the future.
DomainConsistency ==
  /\ \A s \in 1..Last : /\ Segment(s).incarnation <= registered[Segment(s).writer]
                        /\ Segment(s).epoch <= meta.epoch
                        /\ s > 1 => Segment(s - 1).epoch < Segment(s).epoch
                        /\ Segment(s).sealEpoch # 0 => Segment(s).sealEpoch > Segment(s).epoch
  /\ \A frame \in frames : frame[1] <= Last
  /\ \A e \in Epochs : attempt[e].sid <= Last
  /\ \A roll \in rolls : roll[1] <= Last

\* Only the last segment has not ended; one that ended empty was replaced.
OnlyLastIsOpen ==
  \A s \in 1..Last : /\ (s < Last) = IsClosed(s)
                     /\ IsClosed(s) => (Segment(s).state = "replaced") = (Segment(s).end = 0)

\* base(s+1) = end(s): no gap, no overlap.
Contiguous == \A s \in 2..Last : Segment(s).base = Segment(s - 1).base + Segment(s - 1).end

\* Offsets of a segment are given out by one process, the one that the metadata names.
SingleWriter ==
  \A author \in authors : /\ author[2] = Segment(author[1]).writer
                          /\ author[3] = Segment(author[1]).incarnation

\* Nothing is in a segment that has not been opened.
NoWritesPastOpen == \A n \in Nodes, s \in (Last + 1)..MaxSegments : log[n][s] = <<>>

\* Copies of a segment are prefixes of one sequence, up to the end once there is one.
CopiesAgree ==
  \A s \in 1..Last, a \in Nodes, b \in Nodes :
    LET limit == IF IsClosed(s) THEN Segment(s).end ELSE MaxRecords
        common == Smaller(limit, Smaller(Len(log[a][s]), Len(log[b][s])))
    IN SubSeq(log[a][s], 1, common) = SubSeq(log[b][s], 1, common)

--------------------------------------------------------------------------------
(* What a producer was promised. *)

\* An acknowledged record is on an ack quorum of disks, less the disks that were lost since.
AcknowledgedIsDurable ==
  \A record \in acked :
    LET s == record[1]
        i == record[2]
    IN Cardinality({n \in Nodes : durable[n][s] >= i /\ log[n][s][i] = record[3]})
         >= AckQuorum - losses

\* No acknowledgement beyond the seal, before it or after it.
NoAckBeyondSeal == \A record \in acked : IsClosed(record[1]) => record[2] <= Segment(record[1]).end

--------------------------------------------------------------------------------
(* Seals. *)

\* An end covers what was acknowledged and nothing that was never written.
ExactSeal ==
  \A s \in 1..Last : IsClosed(s) =>
    /\ Told(s) <= Segment(s).end
    /\ Segment(s).end <= Cardinality({frame[2] : frame \in {f \in frames : f[1] = s}})

\* A sealed segment is whole on an ack quorum of disks, less those lost since.
SealedIsDurable ==
  \A s \in 1..Last : Segment(s).state = "sealed" =>
    Cardinality({n \in Nodes : durable[n][s] >= Segment(s).end})
      >= AckQuorum - (losses - Segment(s).lossesBefore)

\* A superseded recoverer fixes nothing.
SealedInTurn ==
  \A s \in 1..Last :
    IsClosed(s) /\ Segment(s).sealEpoch # 0 => Segment(s).sealedBy = Segment(s).sealEpoch

\* What has ended stays as it ended.
SealedCountsStable ==
  [][\A s \in 1..Last : IsClosed(s) => s < Last' /\ meta'.segments[s] = Segment(s)]_vars

\* The next segment is opened for a process that is registered at that moment.
OpenedForRegistered ==
  [][Last' > Last =>
       meta'.segments[Last'].incarnation = registered[meta'.segments[Last'].writer]]_vars

--------------------------------------------------------------------------------
(* Replicas. *)

\* Promises are for ever, or for as long as the disk.
PromisesKept ==
  [][\A n \in Nodes, s \in Sids : promise'[n][s] < promise[n][s] => n \in swapped']_vars

\* From its promise on a copy grows only to an end that a recoverer has chosen or metadata fixed.
PromisesHonoured ==
  [][\A n \in Nodes, s \in Sids :
       promise[n][s] # 0 /\ Len(log'[n][s]) > Len(log[n][s]) =>
         \/ \E e \in Epochs : attempt[e].sid = s /\ attempt[e].end = Len(log'[n][s])
         \/ s <= Last /\ IsClosed(s) /\ Segment(s).end = Len(log'[n][s])]_vars

\* What is durable is cut only at a committed end, or lost with the disk.
TruncatedOnlyToCommitted ==
  [][\A n \in Nodes, s \in Sids :
       durable'[n][s] < durable[n][s] =>
         \/ n \in swapped'
         \/ s <= Last /\ IsClosed(s) /\ durable'[n][s] = Segment(s).end]_vars

--------------------------------------------------------------------------------
(* What a consumer sees. *)

Offered == {<<OffsetOf(record[1], record[2]), record[3]>> : record \in acked}
Taken == {<<o - 1, delivered[o]>> : o \in 1..Len(delivered)}

\* The same offset is the same record, for ever: whoever serves it, whatever was acknowledged
\* there, and whatever was read there before.
OneRecordPerOffset ==
  LET seen == Readable \cup Offered \cup Taken IN
  \A one \in seen, other \in seen : one[1] = other[1] => one[2] = other[2]

\* The cursor is never beyond what is committed.
ReadCursorWithinBounds == Len(delivered) <= Segment(Last).base + Told(Last)

\* Offsets are read one after the other; no record comes twice, and those of one segment come in
\* the order in which they were appended.
SequentialOrder ==
  \A o \in 1..Len(delivered), p \in 1..Len(delivered) : o < p =>
    /\ delivered[o] # delivered[p]
    /\ \A s \in 1..Last :
         (OffsetOf(s, 1) < o /\ p <= OffsetOf(s, 1) + Told(s)) => delivered[o] < delivered[p]

--------------------------------------------------------------------------------
(* Progress.  Faults, appends, needless seals and refusals may happen; everything else does in   *)
(* the end, if it stays possible.  Weak fairness is enough: none of these is switched off again   *)
(* and again, because every budget is finite.                                                     *)

Fairness ==
  /\ \A n \in Nodes :
       /\ WF_vars(AdvanceHighWatermark(n)) /\ WF_vars(ProposeRoll(n)) /\ WF_vars(Restart(n))
       /\ WF_vars(\E s \in Sids : BecomeWriter(n, s))
       /\ WF_vars(\E s \in Sids : Sync(n, s))
       /\ WF_vars(\E frame \in frames : Receive(n, frame))
       /\ WF_vars(\E s \in 1..Last : Close(n, s))
       /\ WF_vars(\E s \in 1..Last, source \in Nodes : FetchSealed(n, source, s))
       /\ WF_vars(\E e \in Epochs : Promise(n, e))
       /\ WF_vars(\E e \in Epochs, source \in Nodes : Repair(n, source, e))
  \* A command that is proposed again and again is applied in the end.
  /\ SF_vars(\E roll \in rolls, w \in Nodes : ApplyRoll(roll, w))
  /\ WF_vars(WriterIsGone /\ BeginSeal)
  /\ WF_vars(\E e \in Epochs : ChooseEnd(e))
  /\ WF_vars(\E e \in Epochs, w \in Nodes : CommitSeal(e, w))
  /\ WF_vars(Read)

FairSpec == Spec /\ Fairness

\* The model has used up its segment ids or epochs, which the protocol never does.
Exhausted == Last = MaxSegments \/ meta.epoch = MaxEpoch

\* A segment that has something in it is ended, and the next one opened.
RolloverProgress ==
  \A s \in Sids :
    (s = Last /\ \E record \in acked : record[1] = s) ~> (s < Last \/ Exhausted)

\* What was acknowledged is read.
ReadProgress ==
  \A o \in 0..(MaxReads - 1) : (\E record \in Offered : record[1] = o) ~> (Len(delivered) > o)
================================================================================
