import sys; sys.path.insert(0,'/tmp/trees')
import numpy as np, time, onnxruntime as ort
from onnx import helper, TensorProto
from muse_stream.models.compiled.ensemble import *
from muse_stream.models.compiled.session import CompiledSession
from muse_stream.models.signature import Bound
from muse_stream.scoring import ModelInput
rng=np.random.default_rng(int(sys.argv[1]) if len(sys.argv)>1 else 0)
W=5
def forest(kind,targets,ids_mode,post,base,agg,trees,depth,missing,modes,positive):
    a=dict(nodes_treeids=[],nodes_nodeids=[],nodes_featureids=[],nodes_values=[],nodes_modes=[],nodes_truenodeids=[],nodes_falsenodeids=[],nodes_missing_value_tracks_true=[])
    wt,wn,wi,ww=[],[],[],[]
    pool=rng.choice([0,1,-1,.5,2,3,1e-3,7,np.float32(rng.normal())],8).astype(np.float32)
    for t in range(trees):
        nodes=[];
        def grow(d):
            me=len(nodes); nodes.append(None)
            if d==0 or rng.random()<.15:
                nodes[me]=("LEAF",0,0.0,0,0,0)
            else:
                l=grow(d-1); r=grow(d-1)
                nodes[me]=(rng.choice(modes),int(rng.integers(W)),float(rng.choice(pool)),l,r,int(missing and rng.random()<.5))
            return me
        grow(depth)
        for n,(m,f,v,l,r,mi) in enumerate(nodes):
            for k,x in zip(a,(t,n,f,v,str(m),l,r,mi)): a[k].append(x)
            if m=="LEAF":
                for c in ids_mode(t,n):
                    wt.append(t);wn.append(n);wi.append(c);w=float(np.float32(rng.normal()*rng.choice([1,1e-4,30])));ww.append(abs(w) if positive else w)
    if not missing and rng.random()<.5: del a["nodes_missing_value_tracks_true"]
    if base: a["base_values"]=[float(np.float32(rng.normal())) for _ in range(base)]
    a["post_transform"]=post
    p="class" if kind=="C" else "target"
    a|={f"{p}_treeids":wt,f"{p}_nodeids":wn,f"{p}_ids":wi,f"{p}_weights":ww}
    if kind=="C":
        a["classlabels_int64s"]=list(range(targets))
        n=helper.make_node("TreeEnsembleClassifier",["x"],["l","y"],domain="ai.onnx.ml",**a)
        outs=[helper.make_tensor_value_info("y",1,[None,targets])]
    else:
        a["n_targets"]=targets; a["aggregate_function"]=agg
        n=helper.make_node("TreeEnsembleRegressor",["x"],["y"],domain="ai.onnx.ml",**a)
        outs=[helper.make_tensor_value_info("y",1,[None,targets])]
    g=helper.make_graph([n],"g",[helper.make_tensor_value_info("x",1,[None,W])],outs)
    return helper.make_model(g,opset_imports=[helper.make_opsetid("",15),helper.make_opsetid("ai.onnx.ml",3)],ir_version=8),pool
from collections import Counter
stat=Counter(); bad=Counter()
R=int(sys.argv[2]) if len(sys.argv)>2 else 300
MODES=["BRANCH_LEQ","BRANCH_LT","BRANCH_GTE","BRANCH_GT","BRANCH_EQ","BRANCH_NEQ"]
for it in range(R):
    kind=rng.choice(["C","R"]); targets=int(rng.choice([2,2,2,3,5] if kind=="C" else [1,1,2,3]))
    im=rng.choice(["zero","one","all","rand"])
    idm={"zero":lambda t,n:[0],"one":lambda t,n:[targets-1],"all":lambda t,n:list(range(targets)),"rand":lambda t,n:[int(rng.integers(targets))]}[im]
    post=str(rng.choice(["NONE","LOGISTIC","SOFTMAX","SOFTMAX_ZERO","PROBIT"],p=[.35,.35,.2,.05,.05]))
    base=int(rng.choice([0,0,1,targets])); agg=str(rng.choice(["SUM","AVERAGE","MIN","MAX"]))
    missing=bool(rng.random()<.6); modes=[MODES[0]] if rng.random()<.5 else list(rng.choice(MODES,3))
    trees=int(rng.choice([1,2,10,90,130]))
    pos=bool(rng.random()<.3)
    m,pool=forest(kind,targets,idm,post,base,agg,trees,int(rng.integers(0,6)),missing,modes,pos)
    key=(kind,targets,im,post,base,agg if kind=="R" else "",pos)
    try: so=ort.SessionOptions(); so.intra_op_num_threads=1; so.inter_op_num_threads=1; so.log_severity_level=4; s=ort.InferenceSession(m.SerializeToString(),so,providers=["CPUExecutionProvider"])
    except Exception as e: stat["ort refuses"]+=1; continue
    try: e=read_ensemble(m,"y",Bound((ModelInput("x",W,np.dtype(np.float32)),),frozenset(),None)); c=CompiledSession(e,16)
    except NotCompiledError as x: stat["fallback: "+str(x)]+=1; continue
    N=int(rng.choice([1,16,48,160,4096]))
    X=rng.normal(size=(N,W)).astype(np.float32)
    pick=rng.random(X.shape); X=np.where(pick<.3,rng.choice(pool,X.shape),X); X=np.where((pick>.3)&(pick<.4),np.nan,X); X=np.where((pick>.4)&(pick<.44),rng.choice([np.inf,-np.inf,1e-42,-0.0,0.0],X.shape),X).astype(np.float32)
    try: ref=s.run(["y"],{"x":X})[0]
    except Exception as ex: stat["ort run fails"]+=1; continue
    got=c.run([X])[:N]
    ok=ref.shape==got.shape and np.array_equal(ref.view(np.int32)*(~np.isnan(ref)),got.view(np.int32)*(~np.isnan(got))) and np.array_equal(np.isnan(ref),np.isnan(got))
    stat["ok" if ok else "BAD"]+=1
    if not ok:
        bad[key]+=1
        i=np.argwhere(~((ref==got)|(np.isnan(ref)&np.isnan(got))))
        if sum(bad.values())<8: print(key,trees,modes,missing,N,ref.shape,got.shape,i[:2].tolist(),[ (ref[tuple(k)],got[tuple(k)]) for k in i[:2]], e.finish)
print(stat); print(bad.most_common(30))
