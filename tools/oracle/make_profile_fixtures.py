#!/usr/bin/env python3
"""Writes tests/data/profile: one small run of five kernels in every trace format, by the formats' documented layouts.

    python3 tools/oracle/make_profile_fixtures.py

Total 7,100 ns, union 6,600 ns, span 8,000 ns, three names; one name has commas and quotes, which rocprof does not escape.
"""
import gzip
import json
import pathlib
import sqlite3
import subprocess

OUT = pathlib.Path(__file__).resolve().parent.parent.parent / "tests" / "data" / "profile"
T0 = 1_712_195_495_505_000_000
A = "void mul_mat_q<(ggml_type)2, 128, false>(char const*, int)"
B = "Cijk_Ailk_Bljk_SB_MT16x16x8_SN_ISA000"
C = 'operator"" _x(int, "a", char)'
RUN = [(A, 1000, 3000), (B, 2500, 4500), (C, 5000, 5100), (A, 6000, 9000)]
RUN = [(name, T0 + begin, T0 + end) for name, begin, end in RUN]
BLOCKS, THREADS = 4, 64
ITEMS = BLOCKS * THREADS


def write(name, text):
    (OUT / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def rows(header, line):
    return header + "\n" + "".join(line(i, *k) + "\n" for i, k in enumerate(RUN))


def csv_files():
    write("rocprof.csv", rows(
        '"Index","KernelName","gpu-id","queue-id","queue-index","pid","tid","grd","wgr","lds","scr","arch_vgpr",'
        '"accum_vgpr","sgpr","wave_size","sig","obj","DispatchNs","BeginNs","EndNs","CompleteNs","DurationNs"',
        lambda i, n, b, e: f'{i},"{n} [clone .kd]",1,0,{i},7,8,{ITEMS},{THREADS},512,0,24,0,32,64,0x0,0x7f,{b-50},{b},{e},{e-1},{e-b}'))
    write("rocprof_pmc.csv", rows(
        "Index,KernelName,gpu-id,queue-id,grd,wgr,lds,scr,vgpr,sgpr,fbar,SQ_WAVES,BeginNs,EndNs",
        lambda i, n, b, e: f"{i},{n}.kd,1,0,{ITEMS},{THREADS},512,0,24,32,0,4.5,{b},{e}"))
    write("rocprofv2.csv", rows(
        "Dispatch_ID,GPU_ID,Queue_ID,PID,TID,Grid_Size,Workgroup_Size,LDS_Per_Workgroup,Scratch_Per_Workitem,Arch_VGPR,"
        "Accum_VGPR,SGPR,Wave_Size,Kernel_Name,Start_Timestamp,End_Timestamp,Correlation_ID,SQ_WAVES",
        lambda i, n, b, e: f'{i},1,1,7,8,{ITEMS},{THREADS},512,0,24,0,32,64,"{n}",{b},{e},{i+1},4'))
    size = f"{THREADS},1,1,{ITEMS},1,1"
    write("rocprofv3_18.csv", rows(
        '"Kind","Agent_Id","Queue_Id","Thread_Id","Dispatch_Id","Kernel_Id","Kernel_Name","Correlation_Id","Start_Timestamp",'
        '"End_Timestamp","Private_Segment_Size","Group_Segment_Size","Workgroup_Size_X","Workgroup_Size_Y","Workgroup_Size_Z",'
        '"Grid_Size_X","Grid_Size_Y","Grid_Size_Z"',
        lambda i, n, b, e: f'"KERNEL_DISPATCH",1,1,8,{i},{i},"{n}",{i+1},{b},{e},0,512,{size}'))
    wide = ('"Kind","Agent_Id","Queue_Id","Stream_Id","Thread_Id","Dispatch_Id","Kernel_Id","Kernel_Name","Correlation_Id",'
            '"Start_Timestamp","End_Timestamp","LDS_Block_Size","Scratch_Size","VGPR_Count","Accum_VGPR_Count","SGPR_Count",'
            '"Workgroup_Size_X","Workgroup_Size_Y","Workgroup_Size_Z","Grid_Size_X","Grid_Size_Y","Grid_Size_Z"')
    line = lambda i, n, b, e: f'"KERNEL_DISPATCH","Agent 1",1,0,8,{i},{i},"{n}",{i+1},{b},{e},512,0,24,0,32,{size}'
    text = rows(wide, line)
    write("rocprofv3_22.csv", text)
    write("rocprofv3_22_cut.csv", text[:-60])
    write("rocprofv3_22_crlf.csv", text.replace("\n", "\r\n"))
    write("rocprofv3_22.csv.gz", gzip.compress(text.encode(), mtime=0))
    write("rocprofv3_22_cut.csv.gz", gzip.compress((text * 200).encode(), mtime=0)[:900])
    packed = subprocess.run(["zstd", "-q", "-c", "-19"], input=text.encode(), capture_output=True, check=True).stdout
    write("rocprofv3_22.csv.zst", packed)
    packed = subprocess.run(["zstd", "-q", "-c", "-1"], input=(text * 200).encode(), capture_output=True, check=True).stdout
    write("rocprofv3_22_cut.csv.zst", packed[:-10])
    write("rocpd_converted.csv", rows(
        '"Guid",' + wide.replace("LDS_Block", "Lds_Block").replace("VGPR_Count", "Vgpr_Count"),
        lambda i, n, b, e: '"0000-1",' + line(i, n, b, e)))
    write("counters.csv", rows(
        '"Correlation_Id","Dispatch_Id","Agent_Id","Queue_Id","Process_Id","Thread_Id","Grid_Size","Kernel_Id","Kernel_Name",'
        '"Workgroup_Size","LDS_Block_Size","Scratch_Size","VGPR_Count","SGPR_Count","Counter_Name","Counter_Value",'
        '"Start_Timestamp","End_Timestamp"',
        lambda i, n, b, e: "\n".join(f'{i+1},{i+1},"Agent 1",1,7,8,{ITEMS},{i},"{n}",{THREADS},512,0,24,32,"{c}",4.0,{b},{e}'
                                     for c in ("SQ_WAVES", "SQ_BUSY"))))
    write("hostile.csv", wide + "\n" + "\n".join([
        line(1, "ok", 100, 200), '"KERNEL_DISPATCH","Agent 1', line(2, "backwards", 900, 100), line(3, "never", 0, 0),
        line(4, "huge", 10**30, 10**30), line(5, "letters", "x", "y"), '"' * 50, "," * 100, "\x00\xff,,", line(6, "ok", 300, 500)]) + "\n")


def stats_files():
    sums = {}
    for name, b, e in RUN:
        sums.setdefault(name, []).append(e - b)
    write("rocprof_stats.csv", '"Name","Calls","TotalDurationNs","AverageNs","Percentage"\n' + "".join(
        f'"{n} [clone .kd]",{len(t)},{sum(t)},{sum(t)//len(t)},{sum(t)/71}\n' for n, t in sums.items()))
    write("rocprofv3_stats.csv", '"Name","Calls","TotalDurationNs","AverageNs","Percentage","MinNs","MaxNs","StdDev"\n' + "".join(
        f'"{n}",{len(t)},{sum(t)},{sum(t)/len(t):f},{sum(t)/71:f},{min(t)},{max(t)},0.0\n' for n, t in sums.items()) +
        '"hipLaunchKernel",4,1000,250.0,1.0,1,500,0.0\n')
    esc = lambda n: '"' + n.replace('"', '""') + '"'
    write("nsys_stats.csv", "NOTICE: Existing SQLite export found: run.sqlite\nProcessing [run.sqlite] with [cuda_gpu_kern_sum.py]...\n\n"
          "Time (%),Total Time (ns),Instances,Avg (ns),Med (ns),Min (ns),Max (ns),StdDev (ns),Name\n" + "".join(
              f'{sum(t)/71:.1f},"{sum(t):,}",{len(t)},{sum(t)/len(t):.1f},{t[0]:.1f},"{min(t):,}","{max(t):,}",0.0,{esc(n)}\n'
              for n, t in sums.items()) + "\nProcessing [run.sqlite] with [osrt_sum.py]...\n\nTime (%),Total Time (ns),Num Calls,Name\n1,5,1,poll\n")
    write("nsys_trace.csv", "Generating SQLite file run.sqlite\n\nStart (ns),Duration (ns),CorrId,GrdX,GrdY,GrdZ,BlkX,BlkY,BlkZ,"
          "Reg/Trd,StcSMem (MB),DymSMem (MB),Bytes (MB),Throughput (MB/s),SrcMemKd,DstMemKd,Device,Ctx,Strm,Name\n" + "".join(
              f'{b},{e-b},{i+1},{BLOCKS},1,1,{THREADS},1,1,24,0.000512,0.000000,,,,,NVIDIA H100 (0),1,7,{esc(n)}\n'
              for i, (n, b, e) in enumerate(RUN)) + f'{T0+9500},100,9,,,,,,,,,,1.500,10.5,Pageable,Device,NVIDIA H100 (0),1,7,[CUDA memcpy Host-to-Device]\n')
    head = ('"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size","Device","CC",'
            '"Section Name","Metric Name","Metric Unit","Metric Value"\n')
    text = "==PROF== Connected to process 7\n==PROF== Disconnected\n" + head
    for i, (n, b, e) in enumerate(RUN):
        left = f'"{i}","7","app","127.0.0.1",{esc(n)},"1","7","({THREADS}, 1, 1)","({BLOCKS}, 1, 1)","0","9.0",'
        value = [f'"ns","{e-b:,}"', f'"us","{(e-b)/1000:.2f}"', f'"nsecond","{e-b}"', f'"ns","{e-b:,}"'.replace("3,000", "3.000")][i]
        text += left + f'"GPU Speed Of Light Throughput","DRAM Frequency","hz","27.595.520"\n' + left + f'"GPU Speed Of Light Throughput","Duration",{value}\n'
    write("ncu.csv", text)


def microseconds(ns):
    return f"{ns // 1000}.{ns % 1000:03d}"


def json_files():
    events = ['{"ph":"M","name":"process_name","pid":0,"args":{"name":"py \\" ] }"}}',
              '{"ph":"X","cat":"cuda_runtime","name":"cudaGraphLaunch","pid":7,"tid":7,"ts":1,"dur":1.5,"args":{"correlation":3}}',
              '{"ph":"X","cat":"cpu_op","name":"aten::mm","pid":7,"tid":7,"ts":1,"dur":5,"args":{"Input Dims":[[1,2],[]]}}']
    for i, (n, b, e) in enumerate(RUN):
        grid = "" if i == 2 else f',"grid":[{BLOCKS},1,1],"block":[{THREADS},1,1],"registers per thread":24,"shared memory":512'
        events.append('{"ph":"X","cat":"kernel","name":%s,"pid":0,"tid":7,\n"ts":%s,"dur":%s,"args":{"device":0,"stream":7,"correlation":%d%s}}'
                      % (json.dumps(n), microseconds(b), microseconds(e - b), i + 1, grid))
    text = ('{"schemaVersion":1,"deviceProperties":[{"id":0,"name":"NVIDIA H100","computeMajor":9,"computeMinor":0,"warpSize":32,"numSms":132}],\n'
            '"cuda_runtime_version":12040,\n"traceEvents":[\n' + ",\n".join(events) + '\n],"traceName":"x.json"}\n')
    write("kineto.json", text)
    write("kineto_cut.json", text[:text.rindex('"ts"')])
    write("kineto_hostile.json", '{"traceEvents":[{"ph":"X","cat":"kernel","name":"\\ud800\\q","ts":"1e400","dur":[]},{"cat":"kernel","ph":"X"},'
          '{"ph":"X","cat":"kernel","name":"ok","ts":1e3,"dur":0.0005},' + "[" * 5000 + "]" * 5000 + ',}{]')
    kernels = sorted({n for n, _, _ in RUN})
    write("rocprofv3.json", json.dumps({"rocprofiler-sdk-tool": [{
        "metadata": {"pid": 7, "command": ["app"]},
        "agents": [{"id": {"handle": 99}, "node_id": 1, "gfx_target_version": 90006, "cu_count": 60, "product_name": "MI50"},
                   {"id": {"handle": 98}, "node_id": 0, "gfx_target_version": 0}],
        "kernel_symbols": [{"kernel_id": i + 1, "formatted_kernel_name": n, "truncated_kernel_name": "k"} for i, n in enumerate(kernels)],
        "buffer_records": {"kernel_dispatch": [
            {"start_timestamp": b, "end_timestamp": e, "thread_id": 8, "correlation_id": {"internal": i + 1}, "stream_id": {"handle": 0},
             "dispatch_info": {"agent_id": {"handle": 99}, "queue_id": {"handle": 1}, "kernel_id": kernels.index(n) + 1,
                               "group_segment_size": 512, "workgroup_size": {"x": THREADS, "y": 1, "z": 1},
                               "grid_size": {"x": ITEMS, "y": 1, "z": 1}}} for i, (n, b, e) in enumerate(RUN)]}}]}))


def database(name):
    path = OUT / name
    path.unlink(missing_ok=True)
    db = sqlite3.connect(path)
    db.execute("PRAGMA page_size=512")
    return db


def close(db):
    db.commit()
    db.execute("VACUUM")
    db.close()


def symbols(db, suffix):
    db.execute(f'CREATE TABLE "rocpd_info_kernel_symbol{suffix}"(id INTEGER PRIMARY KEY, guid TEXT, kernel_name TEXT, display_name TEXT, sgpr_count INTEGER, arch_vgpr_count INTEGER, accum_vgpr_count INTEGER)')
    for i, n in enumerate(sorted({n for n, _, _ in RUN})):
        db.execute(f'INSERT INTO "rocpd_info_kernel_symbol{suffix}" VALUES(?,?,?,?,32,24,0)', (i + 1, "g", n + ".kd", n))
    db.execute(f'CREATE TABLE "rocpd_metadata{suffix}"(id INTEGER PRIMARY KEY, tag TEXT, value TEXT)')
    db.execute(f'CREATE TABLE "rocpd_info_agent{suffix}"(id INTEGER PRIMARY KEY, type TEXT, absolute_index INTEGER, name TEXT, product_name TEXT)')
    db.execute(f"INSERT INTO \"rocpd_info_agent{suffix}\" VALUES(5,'GPU',1,'gfx906','MI50')")


def kernel_id(name):
    return sorted({n for n, _, _ in RUN}).index(name) + 1


def rocpd_files():
    size = "workgroup_size_x INTEGER, workgroup_size_y INTEGER, workgroup_size_z INTEGER, grid_size_x INTEGER, grid_size_y INTEGER, grid_size_z INTEGER"
    for version, suffix in (("3", "_00_1"), ("3.0.4", "")):
        db = database("rocpd_3.db" if suffix else "rocpd_plain.db")
        symbols(db, suffix)
        db.execute(f'INSERT INTO "rocpd_metadata{suffix}" VALUES(1,"schema_version",?)', (version,))
        db.execute(f'CREATE TABLE "rocpd_kernel_dispatch{suffix}"(id INTEGER PRIMARY KEY, guid TEXT, pid INTEGER, agent_id INTEGER, kernel_id INTEGER, dispatch_id INTEGER, queue_id INTEGER, stream_id INTEGER, start BIGINT, "end" BIGINT, private_segment_size INTEGER, group_segment_size INTEGER, {size})')
        for i, (n, b, e) in enumerate(RUN):
            db.execute(f'INSERT INTO "rocpd_kernel_dispatch{suffix}" VALUES(?,?,7,5,?,?,1,0,?,?,0,512,?,1,1,?,1,1)', (i + 1, "g", kernel_id(n), i + 1, b, e, THREADS, ITEMS))
        if suffix:
            for table in ("rocpd_kernel_dispatch", "rocpd_info_kernel_symbol"):
                db.execute(f'CREATE VIEW {table} AS SELECT * FROM "{table}{suffix}"')
        close(db)
    db = database("rocpd_4.db")
    symbols(db, "_u")
    db.execute('INSERT INTO "rocpd_metadata_u" VALUES(1,"schema_version","4.1.0")')
    db.execute('CREATE TABLE rocpd_track_u(id INTEGER PRIMARY KEY, pid INTEGER, agent_id INTEGER, queue_id INTEGER, stream_id INTEGER)')
    db.execute('INSERT INTO rocpd_track_u VALUES(3,7,5,1,0)')
    db.execute('CREATE TABLE rocpd_timestamp_u(id INTEGER PRIMARY KEY, value BIGINT)')
    db.execute(f'CREATE TABLE rocpd_kernel_dispatch_u(id INTEGER PRIMARY KEY, track_id INTEGER, kernel_id INTEGER, dispatch_id INTEGER, start_id INTEGER, end_id INTEGER, private_segment_size INTEGER, group_segment_size INTEGER, {size})')
    for i, (n, b, e) in enumerate(RUN):
        db.execute("INSERT INTO rocpd_timestamp_u VALUES(?,?),(?,?)", (2 * i + 1, b, 2 * i + 2, e))
        db.execute("INSERT INTO rocpd_kernel_dispatch_u VALUES(?,3,?,?,?,?,0,512,?,1,1,?,1,1)", (i + 1, kernel_id(n), i + 1, 2 * i + 1, 2 * i + 2, THREADS, ITEMS))
    close(db)
    db = database("rocpd_view.db")  # a layout that nobody knows, behind the documented view
    db.execute("CREATE TABLE rocpd_kernel_dispatch_x(a TEXT, b BIGINT, c BIGINT)")
    db.executemany("INSERT INTO rocpd_kernel_dispatch_x VALUES(?,?,?)", RUN)
    db.execute(f'CREATE VIEW kernels AS SELECT a AS name, b AS start, c AS "end", 1 AS agent_abs_index, 1 AS queue_id, {ITEMS} AS grid_x, 1 AS grid_y, 1 AS grid_z, {THREADS} AS workgroup_x, 1 AS workgroup_y, 1 AS workgroup_z, 512 AS lds_size, 24 AS vgpr_count FROM rocpd_kernel_dispatch_x')
    close(db)
    db = database("rocpd_endless.db")
    db.execute("CREATE TABLE rocpd_kernel_dispatch_x(a TEXT)")
    db.execute('CREATE VIEW kernels AS WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r) SELECT i AS name, i AS start, i AS "end" FROM r WHERE i < 0')
    close(db)


def other_databases():
    db = database("nsys.sqlite")
    db.execute("CREATE TABLE StringIds(id INTEGER PRIMARY KEY, value TEXT)")
    db.execute("CREATE TABLE META_DATA_EXPORT(name TEXT, value TEXT)")
    db.execute("INSERT INTO META_DATA_EXPORT VALUES('EXPORT_SCHEMA_VERSION','3.11.0')")
    db.execute("CREATE TABLE TARGET_INFO_GPU(id INTEGER, name TEXT, smCount INTEGER, computeMajor INTEGER, computeMinor INTEGER)")
    db.execute("INSERT INTO TARGET_INFO_GPU VALUES(0,'NVIDIA H100',132,9,0)")
    db.execute('CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL(start INTEGER, "end" INTEGER, deviceId INTEGER, streamId INTEGER, correlationId INTEGER, globalPid INTEGER, demangledName INTEGER, shortName INTEGER, registersPerThread INTEGER, gridX INTEGER, gridY INTEGER, gridZ INTEGER, blockX INTEGER, blockY INTEGER, blockZ INTEGER, staticSharedMemory INTEGER, dynamicSharedMemory INTEGER, graphNodeId INTEGER)')
    for i, n in enumerate(sorted({n for n, _, _ in RUN})):
        db.execute("INSERT INTO StringIds VALUES(?,?)", (i + 1, n))
    for i, (n, b, e) in enumerate(RUN):
        db.execute("INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES(?,?,0,7,3,?,?,?,24,?,1,1,?,1,1,500,12,?)", (b, e, 7 << 24, kernel_id(n), kernel_id(n), BLOCKS, THREADS, 40 + i))
    close(db)
    whole = (OUT / "nsys.sqlite").read_bytes()
    write("nsys.sqlite.gz", gzip.compress(whole, mtime=0))
    write("nsys_cut.sqlite", whole[:len(whole) * 3 // 4])
    db = database("nsys_empty.sqlite")
    db.execute("CREATE TABLE StringIds(id INTEGER PRIMARY KEY, value TEXT)")
    db.execute("CREATE TABLE CUPTI_ACTIVITY_KIND_GRAPH_TRACE(start INTEGER, \"end\" INTEGER)")
    db.execute("INSERT INTO CUPTI_ACTIVITY_KIND_GRAPH_TRACE VALUES(1,2)")
    close(db)
    db = database("trace.rpd")
    db.execute("CREATE TABLE rocpd_string(id INTEGER PRIMARY KEY, string TEXT)")
    db.execute('CREATE TABLE rocpd_op(id INTEGER PRIMARY KEY, gpuId INTEGER, queueId INTEGER, sequenceId INTEGER, start INTEGER, "end" INTEGER, description_id INTEGER, opType_id INTEGER)')
    for i, n in enumerate(sorted({n for n, _, _ in RUN}) + ["KernelExecution", "CopyHostToDevice", "Barrier", ""]):
        db.execute("INSERT INTO rocpd_string VALUES(?,?)", (i + 1, n))
    for i, (n, b, e) in enumerate(RUN):
        db.execute("INSERT INTO rocpd_op VALUES(?,1,1,0,?,?,?,4)", (i + 1, b, e, kernel_id(n)))
    db.execute("INSERT INTO rocpd_op VALUES(90,1,1,0,?,?,7,5),(91,1,1,0,1,2,7,6)", (T0, T0 + 10))
    close(db)


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def number(field, value):
    return varint(field << 3) + varint(value)


def block(field, data):
    data = data.encode() if isinstance(data, str) else data
    return varint(field << 3 | 2) + varint(len(data)) + data


def perfetto_file():
    text = block(1, block(60, number(1, 5) + block(2, "COMPUTE AGENT [1] QUEUE [0] GPU")))
    names = block(1, number(1, 1) + block(2, "kernel_dispatch")) + block(3, number(1, 1) + block(2, "begin_ns"))
    for i, (n, b, e) in enumerate(RUN):
        note = (block(4, number(1, 1) + number(3, b)) + block(4, block(10, "end_ns") + number(3, e)) + block(4, block(10, "agent") + number(3, 1)) +
                block(4, block(10, "workgroup_size") + number(3, THREADS)) + block(4, block(10, "grid_size") + number(3, ITEMS)))
        event = number(9, 1) + number(11, 5) + number(3, 1) + number(10, 10 + i) + note
        interned = (names if i == 0 else b"") + block(2, number(1, 10 + i) + block(2, n))
        text += block(1, number(8, b) + number(10, 2) + number(13, 1 if i == 0 else 2) + block(12, interned) + block(11, event))
        text += block(1, number(8, e) + number(10, 2) + block(11, number(9, 2) + number(11, 5)))
    write("trace.pftrace", text)
    write("trace_cut.pftrace", text[:-30])
    write("hostile.pftrace", text[:200] + b"\x0a\x05\xff\xff\xff\xff\xff" + b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" + text)


def logs():
    text = ("./rocblas-bench -f gemm_ex --transposeA T --transposeB N -m 256 -n 64 -k 128 --alpha 1 --a_type f16_r --lda 128 --b_type f16_r "
            "--ldb 128 --beta 0 --c_type f32_r --ldc 256 --compute_type f32_r --algo 0 --solution_index 0 --flags 0\n"
            ":3:rocvirtual.cpp           :3503: 32130193416 us: [pid:39416 tid: 0x71a40bfff6c0] ShaderName : " + B + "\n"
            "hipblaslt-bench --api_method c -m 1024 -n 512 -k 2048 --lda 1024 --ldb 1024 --ldc 1024 --ldd 1024 --alpha 1.000000 --beta 0.000000 "
            "--transA N --transB T --batch_count 3 --a_type bf16_r --b_type bf16_r --c_type bf16_r --compute_type f32_r --solution_index 77\n"
            ":3:rocvirtual.cpp           :3503: 32130193499 us: [pid:39416 tid: 0x71a40bfff6c0] ShaderName : mul_mat_vec\n"
            "- { rocblas_function: \"rocblas_gemm_ex\", a_type: \"f16_r\", transA: 'N', transB: 'N', M: 16, N: 8, K: 4, batch_count: 1, call_count: 12 }\n")
    write("library.log", text)
    write("library_cut.log", text[:text.rindex("call_count")])
    write("library_hostile.log", "rocblas-bench -f gemm -m -n -k\nrocblas-bench -f gemm -m 99999999999999999999 -n 1 -k 1\nrocblas-bench - -- ---\n" + text)


OUT.mkdir(parents=True, exist_ok=True)
csv_files()
stats_files()
json_files()
rocpd_files()
other_databases()
perfetto_file()
logs()
